import json
from pathlib import Path

import numpy as np
import torch
from support.project import runtime_params
from support.trained_project import SPEC

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.detect.detector import Detector
from ssd_lib.evaluate.coco_eval import predict, results_json
from ssd_lib.evaluate.evaluate import evaluate
from ssd_lib.evaluate.tiled import predict_as_shipped
from ssd_lib.nets.model_file import MODEL_PATH, load_model, save_model
from ssd_lib.params import EvalParams

CPU = torch.device("cpu")


def test_without_tiles_evaluation_is_bit_for_bit_what_it_was(project: Path, dataset: DetectionDataset) -> None:
    net = load_model().net
    shipped = predict_as_shipped(net, dataset, Postprocess(), 2, CPU, 0)
    for column, expected in zip(shipped, predict(net, dataset, Postprocess(), 2, CPU, 0, progress=False), strict=True):
        assert column.tobytes() == expected.tobytes()


def test_in_tiles_evaluation_measures_what_a_detector_finds(project: Path, dataset: DetectionDataset, params: EvalParams,
                                                            weights: dict[str, torch.Tensor]) -> None:
    save_model(MODEL_PATH, SPEC, weights, {}, Postprocess(tiles=4))
    measured = predict_as_shipped(load_model().net, dataset, load_model().postprocess, 2, CPU, 0)
    found, whole = ([Detector(threshold=0.01, tiles=tiles)(Path(f"data/raw/tiny/val/{index}.png"))
                     for index in range(len(dataset))] for tiles in (None, 0))
    for index in range(len(dataset)):
        corners = measured.boxes[measured.images == index, :2]
        shares = [(np.abs(corners[:, None] - one[index].boxes[:, :2]).max(axis=2) < 1e-2).any(axis=1).mean()
                  for one in (found, whole)]
        assert shares[0] > 0.95, "an IoU that is nearly nms_iou may be on the other side of it"
        assert shares[1] < 0.9
    evaluate(params, runtime_params())
    assert json.loads(Path("reports/results.json").read_text()) == results_json(dataset.fixed, measured)
