import numpy as np

from volflow.track.memory import Crop, Track, cropped, from_record, to_record


def crop(y, x, height, width, age=0, seed=0):
    mask = np.random.default_rng(seed).integers(1, 256, (height, width), dtype=np.uint8)
    return Crop((y, x), mask, age)


def same(tracks, others):
    assert len(tracks) == len(others)
    for track, other in zip(tracks, others, strict=True):
        assert (track.key, track.id, track.missed) == (other.key, other.id, other.missed)
        assert len(track.crops) == len(other.crops)
        for one, two in zip(track.crops, other.crops, strict=True):
            assert one.origin == two.origin
            assert one.age == two.age
            np.testing.assert_array_equal(one.mask, two.mask)


def test_a_state_is_the_same_after_it_was_stored():
    tracks = [
        Track(3, 0, 1, (crop(1, 2, 4, 5, 2), crop(2, 2, 3, 3, 1, 1))),
        Track(7, 2**63 + 5, 0, (crop(0, 0, 0, 0), crop(-2, 9, 1, 8, 4, 2))),
    ]
    record = to_record(tracks, 9)
    assert {column.ndim for column in record.values()} == {1}
    again, born = from_record(record)
    assert born == 9
    same(again, tracks)


def test_a_state_without_tracks():
    assert from_record(to_record([], 4)) == ([], 4)


def test_a_track_remembers_its_newest_masks_with_their_ages():
    track = Track(1)
    for number in range(4):
        track = track.older().seen(crop(0, 0, 2, 2, seed=number), memory=3)
    assert [each.age for each in track.older().crops] == [3, 2, 1]
    np.testing.assert_array_equal(track.crops[-1].mask, crop(0, 0, 2, 2, seed=3).mask)


def test_a_window_is_around_the_newest_mask_in_multiples_of_the_stride():
    old, new = crop(10, 40, 4, 4, 2), crop(33, 40, 4, 6, 1, seed=1)
    seen = Track(5, crops=(old, new)).remembered(3, 16, (100, 50), 9)
    assert seen.origin == (16, 32)  # 33 - 3 = 30 and 40 - 3 = 37, rounded down to multiples
    assert seen.masks.shape == (2, 32, 32)  # to 48 = 40 rounded up, and to 64 beyond the tile
    assert seen.ages.tolist() == [2, 1]
    assert not seen.masks[0].any()  # the old mask is outside
    np.testing.assert_array_equal(seen.masks[1, 17:21, 8:14], new.mask)


def test_masks_of_sections_that_were_not_seen_are_left_out():
    track = Track(5, crops=(crop(0, 0, 4, 4, 3), crop(0, 0, 4, 4, 2)))
    assert track.remembered(0, 4, (9, 9), 3).ages.tolist() == [3, 2]
    assert track.remembered(0, 4, (9, 9), 2).ages.tolist() == [2]
    assert track.remembered(0, 4, (9, 9), 0).ages.tolist() == [2]  # the newest stays


def test_a_mask_is_cut_to_what_is_not_zero():
    mask = np.zeros((9, 9), np.uint8)
    mask[2, 3], mask[4, 7] = 5, 6
    cut = cropped(mask, (10, 20))
    assert cut.origin == (12, 23)
    assert cut.mask.shape == (3, 5)
    assert cropped(np.zeros((3, 3), np.uint8), (1, 1)).mask.size == 0
