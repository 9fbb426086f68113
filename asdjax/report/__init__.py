import logging

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it keeps no list of fonts, it makes one each time
