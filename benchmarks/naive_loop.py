"""What published scripts do with a film: facexlib's helper, frame by frame, in eight-bit BGR."""

import time
from pathlib import Path

import cv2
import facexlib.utils.face_restoration_helper as helper_module
import numpy as np
import torch
from facexlib.utils.face_restoration_helper import FaceRestoreHelper

from vqfr_media.engine import Engine


def naive_seconds(source: Path, output: Path, engine: Engine, detector_folder: Path) -> float:
    """Restores a film in the usual way; returns seconds per frame, decoding and encoding included.

    Args:
        source: A film that OpenCV reads.
        output: An .mp4 file.
        engine: The same that our pipeline is measured with.
        detector_folder: Holds facexlib's detection_mobilenet0.25_Final.pth.
    """
    # The helper loads a parsing network that it uses only where it is asked to, which is not here.
    helper_module.init_parsing_model = lambda **_: None
    size = engine.spec.size
    helper = FaceRestoreHelper(
        1,
        face_size=size,
        det_model="retinaface_mobile0.25",
        device="cpu",
        model_rootpath=str(detector_folder),
    )
    reader = cv2.VideoCapture(str(source))
    shape = (
        int(reader.get(cv2.CAP_PROP_FRAME_WIDTH)),
        int(reader.get(cv2.CAP_PROP_FRAME_HEIGHT)),
    )
    writer = cv2.VideoWriter(str(output), cv2.VideoWriter.fourcc(*"mp4v"), 25, shape)
    frames, started = 0, time.perf_counter()
    while (read := reader.read())[0]:
        helper.clean_all()
        helper.read_image(read[1])
        helper.get_face_landmarks_5(eye_dist_threshold=5)
        helper.align_warp_face()
        for crop in helper.cropped_faces:
            rgb = np.ascontiguousarray(crop[:, :, ::-1].transpose(2, 0, 1), np.float32) / 255
            batch = torch.from_numpy(rgb)[None]
            restored = engine.decode(batch, engine.encode(batch), fidelity=0.5)[0]
            picture = (restored.permute(1, 2, 0).numpy()[:, :, ::-1] * 255).round().clip(0, 255)
            helper.add_restored_face(picture.astype(np.uint8))
        helper.get_inverse_affine()
        writer.write(helper.paste_faces_to_input_image())
        frames += 1
    writer.release()
    return (time.perf_counter() - started) / frames
