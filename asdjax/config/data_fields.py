"""Fields of the recordings and of the spectrograms made from them."""

from typing import Literal

from asdjax.config.field_spec import COUNT, OPEN, FieldGroup, Rule, field


class DataFields(FieldGroup):
    """Recordings: where they are and how they are read."""

    root: tuple[str, ...] = field(
        ("data",),
        "folders that hold machine folders or a manifest.csv, such as dev_data,eval_data",
        required=True,
        free_on_resume=True,
    )
    truth: str = field(
        "", "folder of ground_truth_*.csv or eval_data_list.csv: labels of evaluation clips", free_on_resume=True
    )
    exclude: str = field(
        "",
        "file with a recording to leave out in each line, by its name or the end of its path; empty: none",
        free_on_resume=True,
    )
    store: str = field("", "folder of the decoded audio; empty: store/ in the work directory", free_on_resume=True)
    layout: Literal["auto", "dcase2020", "dcase2021", "dcase2022", "manifest"] = field(
        "auto", "arrangement of the folders; dcase2022: 2022 and later"
    )
    machines: tuple[str, ...] = field((), "machine types; empty: all in the folders")
    classes: Literal["auto", "section", "machine_section", "machine_section_attributes"] = field(
        "auto", "classes that the models learn to separate"
    )
    resident: Literal["auto", "device", "host"] = field(
        "auto",
        "memory that holds the audio: the device's, or the host's, which cuts the crops one dispatch ahead; "
        "auto: the device's if it fits",
    )
    on_mismatch: Literal["error", "convert"] = field(
        "error",
        "clips in another format; convert: resample, reduce to one channel, round to 16 bits, accept lossy formats",
    )
    channel: str = field(
        "mean",
        "channel of converted clips: the mean of all, or one by number",
        rule=Rule(
            expected="mean or a number from 1",
            allows=lambda value: value == "mean" or (value.isdecimal() and int(value) > 0),
        ),
    )


class SignalFields(FieldGroup):
    """Spectrogram of a piece."""

    sample_rate_hz: int = field(16000, "sampling rate", unit="Hz", source="report, Table 3", rule=COUNT)
    n_fft: int = field(
        2046,
        "length of an STFT window; its 1 + n_fft / 2 bins must be a multiple of each variant's height",
        unit="samples",
        source="report, Table 3",
        rule=Rule(
            expected="an even number above 0, 1000000000 at most",
            allows=lambda value: COUNT.allows(value) and value % 2 == 0,
        ),
    )
    hop_samples: int = field(512, "distance between STFT windows", unit="samples", source="report, Table 3", rule=COUNT)
    piece_frames: int = field(32, "length of a piece", unit="STFT frames", source="report, 1.2", rule=COUNT)
    value: Literal["log", "magnitude", "power"] = field("log", "value of a spectrogram's bin", source=OPEN)
    pool: Literal["mean", "stack"] = field(
        "mean",
        'how 1024 bins become 512 rows: mean of two neighbours, or both stacked as channels ("reshaped" in report 1.2)',
        source=OPEN,
    )
