"""The detector: anchors, proposals, public weights, one training step of the published network."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from volflow.checkpoints.section_header import SectionHeader
from volflow.errors import PlanError, StorageError
from volflow.models.detector.boxes import keep_best
from volflow.models.detector.inference import BoxDetector
from volflow.models.detector.proposals import Scored, anchors_of, proposals
from volflow.models.detector.public_weights import copy_public_weights, load_public_weights
from volflow.models.detector.quasidense import PRESETS, QuasiDense
from volflow.models.section_checkpoint import (
    export_section_checkpoint,
    load_section_checkpoint,
    save_section_checkpoint,
)

TINY = {"backbone": "light", "channels": 8, "hidden": 8, "embedding": 4, "convolutions": 1}


def tiny(**changes):
    torch.manual_seed(0)
    return QuasiDense(**{**TINY, **changes}).eval()


def test_anchors_are_centred_on_pixels_and_have_the_ratios():
    anchors = anchors_of((2, 3), 4, 8.0)
    assert anchors.shape == (18, 4)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres[::3].tolist() == [[y, x] for y in (2, 6) for x in (2, 6, 10)]
    sides = anchors[:3, 2:] - anchors[:3, :2]
    torch.testing.assert_close(sides[:, 0] / sides[:, 1], torch.tensor([0.5, 1.0, 2.0]))
    torch.testing.assert_close(sides.prod(1), torch.full((3,), 64.0))


def test_scores_and_deltas_belong_to_their_anchors():
    network = tiny()
    levels, scored = network(torch.randn(2, 1, 64, 96))
    assert [tuple(level.shape[2:]) for level in levels] == [
        (64 // s, 96 // s) for s in network.strides
    ]
    logits, deltas = network.rpn.head(levels[1])
    first = scored[1].sizes[0]
    y, x, ratio = 3, 5, 2
    place = first + (y * 24 + x) * 3 + ratio
    inner = network.rpn.head.conv(levels[1])
    assert scored[1].logits[place] == network.rpn.head.cls_logits(inner)[1, ratio, y, x]
    expected = network.rpn.head.bbox_pred(inner)[1, 4 * ratio : 4 * ratio + 4, y, x]
    assert torch.equal(scored[1].deltas[place], expected)
    centre = (scored[1].anchors[place, :2] + scored[1].anchors[place, 2:]) / 2
    assert centre.tolist() == [(y + 0.5) * 4, (x + 0.5) * 4]
    assert len(logits) == len(deltas) == 2


def test_proposals_are_the_best_anchors_without_duplicates():
    anchors = anchors_of((8, 8), 4, 8.0)
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=len(anchors))).float()
    scored = Scored(anchors, logits, torch.zeros_like(anchors), [len(anchors)])
    boxes = proposals(scored, (32, 32), 1.0, 0.3)
    inside = torch.minimum(anchors.clamp(min=0), torch.full((4,), 32.0))
    torch.testing.assert_close(boxes, inside[keep_best(inside, logits, 0.3)])
    few = proposals(scored, (32, 32), 5 / 1024, 0.3)
    assert torch.equal(few, boxes[:5])


def test_a_section_is_detected_the_same_wherever_it_ends():
    """A section whose sides are no multiples is padded; boxes end within it."""
    detector = BoxDetector(tiny(), least_score=0.0)
    section = np.random.default_rng(1).normal(size=(50, 70)).astype(np.float32)
    boxes, scores, embeddings = detector.detect(section)
    assert len(boxes) == len(scores) == len(embeddings) > 5
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= [50, 70]).all()
    assert (np.diff(scores) <= 0).all()
    again = detector.detect(section)
    assert all(
        np.array_equal(a, b) for a, b in zip(again, (boxes, scores, embeddings), strict=True)
    )


def public_tensors(seed=0):
    """Tensors of a classifier with the names of public weights."""
    torch.manual_seed(seed)
    network = QuasiDense(**{**TINY, "norm": "frozen", "in_channels": 3})
    body = network.backbone.body
    for tensor in body.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) + 0.1)
    stored = {name: t.clone() for name, t in body.state_dict().items()}
    stored |= {"fc.weight": torch.zeros(9, 9), "bn1.num_batches_tracked": torch.tensor(3)}
    return body, stored


def test_public_weights_of_three_colours_equal_a_section_repeated_three_times(tmp_path):
    body, stored = public_tensors()
    save_file(stored, tmp_path / "resnet.safetensors")
    network = tiny(norm="frozen")
    copied = load_public_weights(tmp_path / "resnet.safetensors", network)
    assert len(copied) == len(stored) - 2
    image = torch.randn(1, 1, 32, 32)
    for a, b in zip(network.backbone.body(image), body(image.expand(-1, 3, -1, -1)), strict=True):
        torch.testing.assert_close(a, b)


def test_public_weights_of_a_detector_load_under_old_and_new_names():
    source = tiny(norm="frozen")
    for tensor in source.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape))
    new = {n: t.clone() for n, t in source.state_dict().items() if "track_head" not in n}
    new["roi_heads.box_predictor.cls_score.weight"] = torch.zeros(91, 8)  # other classes
    box = new["roi_heads.box_predictor.bbox_pred.weight"]
    new["roi_heads.box_predictor.bbox_pred.weight"] = torch.cat([torch.zeros_like(box), box])
    old = {
        n.replace("conv.0.0.", "conv.").replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        if "fpn" in n or "rpn.head.conv" in n
        else n: t
        for n, t in new.items()
    }
    assert "backbone.fpn.inner_blocks.0.weight" in old
    assert "rpn.head.conv.weight" in old
    for stored in (new, old):
        target = tiny(norm="frozen")
        fresh = target.roi_heads.box_predictor.cls_score.weight.clone()
        copied = copy_public_weights(stored, target)
        for name in copied:
            assert torch.equal(target.state_dict()[name], source.state_dict()[name]), name
        assert set(copied) == {n for n in new if "cls_score.weight" not in n}
        assert torch.equal(target.roi_heads.box_predictor.cls_score.weight, fresh)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    _, stored = public_tensors()
    with pytest.raises(PlanError, match="the detector has no tensor"):
        copy_public_weights(stored, tiny(norm="channel"))
    cut = {name: t for name, t in stored.items() if name != "layer2.0.conv1.weight"}
    with pytest.raises(PlanError, match=r"'layer2.0.conv1.weight' is missing, and 0 more"):
        copy_public_weights(cut, tiny(norm="frozen"))
    wrong = {**stored, "layer1.0.conv1.weight": torch.zeros(1, 2, 3, 3)}
    with pytest.raises(PlanError, match=r"does not fit; expected shape \(16, 16, 3, 3\)"):
        copy_public_weights(wrong, tiny(norm="frozen"))
    (tmp_path / "a.pth").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(PlanError, match="expected a safetensors file"):
        load_public_weights(tmp_path / "a.pth", tiny(norm="frozen"))


HEADER = SectionHeader(network="quasidense", arguments=TINY, voxel_size_nm=(30, 10, 10))


def test_a_checkpoint_comes_back_and_damage_is_noticed(tmp_path):
    network, path = tiny(), tmp_path / "t.safetensors"
    written = save_section_checkpoint(path, network.state_dict(), HEADER)
    loaded, header = load_section_checkpoint(path)
    assert header == written
    assert header.arguments == TINY
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name])
    export_section_checkpoint(path, tmp_path / "half.safetensors", torch.float16)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * path.stat().st_size
    half, _ = load_section_checkpoint(tmp_path / "half.safetensors")
    assert half.backbone.body.conv1.weight.dtype == torch.float32
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        load_section_checkpoint(path)


def test_other_files_and_networks_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(StorageError, match="not a network of sections"):
        load_section_checkpoint(tmp_path / "a.safetensors")
    for changes, message in (
        ({"network": "other"}, "there is no network of sections 'other'"),
        ({"arguments": {"width": 1}}, "unexpected keyword argument 'width'"),
        ({"arguments": {"channels": 0}}, "above 0"),
    ):
        path = tmp_path / "b.safetensors"
        save_section_checkpoint(path, {}, HEADER.model_copy(update=changes))
        with pytest.raises(PlanError, match=message):
            load_section_checkpoint(path)


def test_the_presets_are_networks_of_the_sizes_that_they_claim():
    with torch.device("meta"):
        light, published = (QuasiDense(**PRESETS[name]) for name in ("light", "resnet50"))
    assert sum(p.numel() for p in light.parameters()) < 1e6
    assert published.strides == (4, 8, 16, 32, 64)
    assert light.strides == (2, 4, 8, 16, 32)
    assert published.roi_heads.track_head.fc.weight.shape == (1024, 12544)
    assert published.roi_heads.track_head.embed.weight.shape == (256, 1024)
