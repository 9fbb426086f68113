import logging

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # otherwise it logs that it builds its font cache
