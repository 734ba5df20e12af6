"""What speaks against a restoration, found without the libraries that would do it.

PyTorch and OpenVINO take seconds to import; who mistyped a name should not wait for them.
"""

from pathlib import Path

from vqfr_media.errors import OptionError
from vqfr_media.files import refuse_same
from vqfr_media.media.encoder import encoder_threads
from vqfr_media.media.fields import check_fields, deinterlaced_info
from vqfr_media.media.image import check_image_output, is_image, read_image
from vqfr_media.media.read import open_video
from vqfr_media.media.write import try_writer
from vqfr_media.options import RestoreOptions


def check_files(source: Path, output: Path, options: RestoreOptions) -> None:
    """Refuses files that `pipeline.restore_video` or `restore_image` would refuse, but at once.

    What the options name is checked by `choices.check_available`.

    Raises:
        InputError: the source is no video or image, or is not what the options are for.
        MachineError: the output cannot be written.
    """
    if is_image(source):
        refuse_range_of_image(source, options)
        refuse_same(output, source)
        frame, _ = read_image(source)
        check_image_output(output, frame, options.encode, upscale=options.upscale)
        return
    keep_damaged = options.damaged == "keep"
    # Of what is not said to be interlaced, only this is refused; pictures are looked at later.
    asked = options.fields != "auto" or options.upscale > 1
    fields = options.fields if asked else None
    with open_video(source, keep_damaged=keep_damaged, fields=fields) as reader:
        info = reader.info
        check_fields(source, info, options)
        if info.first_field and options.fields == "deinterlace":
            info = deinterlaced_info(info)
        try_writer(
            output, source, info, options.encode,
            upscale=options.upscale, threads=encoder_threads(),
        )  # fmt: skip


def refuse_range_of_image(source: Path, options: RestoreOptions) -> None:
    """Raises OptionError where a range of times is asked for of an image."""
    if not options.part.is_whole:
        raise OptionError(
            f"{source} is an image, which has no times; leave out start, end and duration"
        )
