"""The public sets' lists, written here in their published forms, and batches of their clips."""

import jax.numpy as jnp
import numpy as np
import pytest
from limbeck.encoders import audio_visual_sets as sets
from limbeck.encoders.audio_visual_sets import Example
from limbeck.encoders.clip_batches import ClipFormat, clip_batches
from limbeck.encoders.training import TrainConfig, train


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


AUDIOSET_HEAD = (
    "# Segments csv created Sun Mar  5 10:54:31 2017\n"
    "# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=4\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
)


@pytest.fixture
def audioset(tmp_path):
    write(
        tmp_path / "class_labels_indices.csv",
        'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05zppz,"Male speech, man speaking"\n2,/t/dd1,"Hum"\n',
    )
    write(
        tmp_path / "balanced_train_segments.csv",
        AUDIOSET_HEAD
        + '--4gqARaEJE, 0.000, 10.000, "/m/09x0r,/t/dd1"\n'
        + '-0xzrMun0Rs, 30.000, 40.000, "/m/05zppz"\n'
        + '_gone_video, 5.000, 15.000, "/t/dd1"\n',
    )
    write(tmp_path / "eval_segments.csv", AUDIOSET_HEAD + 'YYabcdefgh1, 0.5, 10.5, "/m/05zppz"\n')
    return tmp_path


def test_audioset(audioset):
    touch(audioset, "clips/a/--4gqARaEJE.flac", "clips/-0xzrMun0Rs_30.000.wav", "clips/YYabcdefgh1.mp4")
    touch(audioset, "clips/_gone_video.txt")
    listing = sets.audioset(audioset)
    clips = audioset / "clips"
    assert listing.classes == ("Speech", "Male speech, man speaking", "Hum")
    assert listing.examples == (
        Example(clips / "a/--4gqARaEJE.flac", 0.0, 10.0, (0, 2), "balanced_train", "--4gqARaEJE"),
        Example(clips / "-0xzrMun0Rs_30.000.wav", 0.0, 10.0, (1,), "balanced_train", "-0xzrMun0Rs"),
        Example(clips / "YYabcdefgh1.mp4", 0.5, 10.5, (1,), "eval", "YYabcdefgh1"),
    )
    assert listing.absent == ("_gone_video from 5 s",)
    assert str(listing) == (
        "AudioSet: balanced_train 2, eval 1; 3 classes; 1 absent, first _gone_video from 5 s"
    )
    assert listing.of("eval") == listing.examples[2:]
    with pytest.raises(ValueError, match="no example of .*'train'"):
        listing.of("train")
    trimmed = sets.audioset(audioset, clips, trimmed=True)
    assert trimmed.examples[2][1:3] == (0.0, 10.0)


@pytest.mark.parametrize(
    "name",
    [
        "-0xzrMun0Rs_30",
        "-0xzrMun0Rs_30.0",
        "-0xzrMun0Rs_000030_000040",
        "-0xzrMun0Rs_30000",
        "Y-0xzrMun0Rs_30.000",
    ],
)
def test_names_of_a_segment(audioset, name):
    touch(audioset, f"{name}.wav", "-0xzrMun0Rs_10.wav")
    (example,) = sets.audioset(audioset).examples
    assert example.path.stem == name and example[1:3] == (0.0, 10.0)


def test_a_segment_is_rather_its_own_file_than_the_whole_video(audioset):
    touch(audioset, "-0xzrMun0Rs.mp4", "-0xzrMun0Rs_30.mp4")
    (example,) = sets.audioset(audioset).examples
    assert example.path.name == "-0xzrMun0Rs_30.mp4"


def test_vggsound(tmp_path):
    write(
        tmp_path / "vggsound.csv",
        '---g-f_I2yQ,1,people marching,test\n--0PQM4-hqg,30,"female speech, woman speaking",train\n'
        "--0PQM4-hqg,90,people marching,train\n",
    )
    touch(tmp_path, "video/---g-f_I2yQ_000001.mp4", "video/--0PQM4-hqg.mp4")
    listing = sets.vggsound(tmp_path)
    assert listing.classes == ("female speech, woman speaking", "people marching")
    assert [example[1:] for example in listing.examples] == [
        (0.0, 10.0, (1,), "test", "---g-f_I2yQ"),
        (30.0, 40.0, (0,), "train", "--0PQM4-hqg"),
        (90.0, 100.0, (1,), "train", "--0PQM4-hqg"),
    ]


def test_kinetics(tmp_path):
    write(
        tmp_path / "train.csv",
        "label,youtube_id,time_start,time_end,split,is_cc\ntesting tea,abcdefghij1,20,30,train,0\n"
        "abseiling,abcdefghij2,0,10,train,0\n",
    )
    write(tmp_path / "test.csv", "youtube_id,time_start,time_end,split\nabcdefghij3,7,17,test\n")
    media = tmp_path / "media"
    touch(media, "abseiling/abcdefghij2_000000_000010.mp4", "testing tea/abcdefghij1_000020_000030.mp4")
    touch(media, "test/abcdefghij3_000007_000017.mkv")
    listing = sets.kinetics(tmp_path, media)
    assert listing.classes == ("abseiling", "testing tea") and not listing.absent
    assert [(x.path.parent.name, x.start_s, x.end_s, x.labels, x.split) for x in listing.examples] == [
        ("test", 0.0, 10.0, (), "test"),
        ("testing tea", 0.0, 10.0, (1,), "train"),
        ("abseiling", 0.0, 10.0, (0,), "train"),
    ]


def test_esc50(tmp_path):
    write(
        tmp_path / "meta" / "esc50.csv",
        "filename,fold,target,category,esc10,src_file,take\n1-100032-A-0.wav,1,0,dog,True,100032,A\n"
        "5-9032-A-2.wav,5,2,rain,True,9032,A\n5-9032-B-2.wav,5,2,rain,True,9032,B\n",
    )
    touch(tmp_path, "audio/1-100032-A-0.wav", "audio/5-9032-B-2.wav")
    listing = sets.esc50(tmp_path)
    assert listing.classes == ("dog", "", "rain") and listing.absent == ("audio/5-9032-A-2.wav",)
    assert [example[1:] for example in listing.examples] == [
        (0.0, None, (0,), "fold1", "100032"),
        (0.0, None, (2,), "fold5", "9032"),
    ]


def test_a_list_without_rows_has_no_examples(tmp_path):
    write(tmp_path / "meta" / "esc50.csv", "filename,fold,target,category,esc10,src_file,take\n")
    with pytest.raises(FileNotFoundError, match="none of the 0 examples that ESC-50 lists"):
        sets.esc50(tmp_path)


def test_ucf101(tmp_path):
    lists = tmp_path / "ucfTrainTestlist"
    write(lists / "classInd.txt", "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n")
    # The set itself writes this class in two ways.
    pushups = "HandstandPushups/v_HandStandPushups_g01_c02.avi"
    write(lists / "trainlist02.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\n")
    write(lists / "testlist02.txt", f"{pushups}\r\n")
    touch(tmp_path / "UCF-101", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", pushups)
    listing = sets.ucf101(tmp_path, division=2)
    assert [example[3:] for example in listing.examples] == [
        ((0,), "train", "v_ApplyEyeMakeup_g08"),
        ((1,), "test", "v_HandStandPushups_g01"),
    ]
    with pytest.raises(FileNotFoundError, match=r"trainlist01\.txt does not exist"):
        sets.ucf101(tmp_path)


def test_hmdb51(tmp_path):
    names = [f"April_09_brush_hair_u_nm_np1_ba_goo_{k}.avi" for k in range(3)]
    wave = "20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0.avi"
    lists = tmp_path / "testTrainMulti_7030_splits"
    write(lists / "brush_hair_test_split1.txt", "".join(f"{n} {k} \n" for k, n in zip((1, 2, 0), names)))
    write(lists / "wave_test_split1.txt", f"{wave} 2 \n")
    write(lists / "wave_test_split2.txt", f"{wave} 1 \n")
    touch(tmp_path, *(f"brush_hair/{name}" for name in names), f"wave/{wave}")
    listing = sets.hmdb51(tmp_path)
    assert listing.classes == ("brush_hair", "wave")
    assert [example[3:] for example in listing.examples] == [
        ((0,), "train", "April_09_brush_hair"),
        ((0,), "test", "April_09_brush_hair"),
        ((0,), "unused", "April_09_brush_hair"),
        ((1,), "test", "20060723sfjffbartsinger_wave"),
    ]


def test_nothing_on_disk_is_an_error(audioset):
    with pytest.raises(FileNotFoundError, match="has none of the 4 examples that AudioSet lists, the first"):
        sets.audioset(audioset)
    with pytest.raises(FileNotFoundError, match=r"vggsound\.csv does not exist"):
        sets.vggsound(audioset)
    with pytest.raises(FileNotFoundError, match="ends in _test_split3"):
        sets.hmdb51(audioset, division=3)


def test_lists_of_another_form_name_their_line(audioset):
    write(
        audioset / "eval_segments.csv", AUDIOSET_HEAD + 'aaaaaaaaaaa, 0, 10, "/m/09x0r"\nbbbbbbbbbbb, ten\n'
    )
    with pytest.raises(ValueError, match=r"eval_segments\.csv, line 5, is not of the set's form"):
        sets.audioset(audioset)
    write(audioset / "eval_segments.csv", AUDIOSET_HEAD + 'aaaaaaaaaaa, 0, 10, "/m/none"\n')
    with pytest.raises(ValueError, match=r"labels that its list of classes lacks: \['/m/none'\]"):
        sets.audioset(audioset)
    write(audioset / "vggsound.csv", "aaaaaaaaaaa,1,rain\n")
    with pytest.raises(ValueError, match=r"vggsound\.csv, line 1, is not"):
        sets.vggsound(audioset)


@pytest.fixture(scope="module")
def ramps(tmp_path_factory):
    """Six films of three seconds with sound: film f's sound rises from f to f + 1 tenths, its grey is 40 f."""
    av = pytest.importorskip("av", reason="needs the extra `media`")
    root = tmp_path_factory.mktemp("ramps")
    examples = []
    for f in range(6):
        with av.open(str(root / f"{f}.mkv"), "w") as container:
            audio = container.add_stream("flac", rate=8000, layout="mono")
            video = container.add_stream("ffv1", rate=5)
            video.height, video.width, video.pix_fmt = 16, 16, "yuv420p"
            sound = (3276.7 * np.linspace(f, f + 1, 24000)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(sound[None], "s16", "mono")
            frame.sample_rate, frame.pts = 8000, 0
            container.mux(audio.encode(frame))
            for k in range(15):
                frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 40 * f, np.uint8), "rgb24")
                frame.pts = k
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            container.mux(audio.encode(None))
        end_s = None if f == 0 else (3.0, 11.0)[f % 2]  # Some lists promise more than there is.
        examples.append(
            Example(root / f"{f}.mkv", 0.0 if f == 0 else 1.0, end_s, (f % 2, 2), "train", str(f))
        )
    return examples


CLIPS = ClipFormat(0.5, sample_rate=8000, fps=5, size=(8, 8))


def test_batches_are_a_pure_function_of_the_update(ramps):
    batches = clip_batches(ramps, 4, CLIPS, num_classes=3, seed=1)
    again = clip_batches(ramps, 4, CLIPS, num_classes=3, seed=1, workers=1)
    other = clip_batches(ramps, 4, CLIPS, num_classes=3, seed=2)
    made = [batches(i) for i in range(6)]
    assert {name: (x.shape, x.dtype) for name, x in made[0].items()} == {
        "labels": ((4, 3), np.float32),
        "audio": ((4, 4000), np.float32),
        "video": ((4, 2, 8, 8, 3), np.uint8),
    }
    for i in (5, 0, 3):
        for name, x in again(i).items():
            np.testing.assert_array_equal(x, made[i][name])
    assert any((other(i)["audio"] != made[i]["audio"]).any() for i in range(2))


def test_an_epoch_sees_each_example_once_and_crops_lie_inside(ramps):
    batches = clip_batches(ramps, 4, CLIPS, num_classes=3)
    made = [batches(i) for i in range(6)]
    films = np.concatenate([np.round(batch["video"].mean((1, 2, 3, 4)) / 40).astype(int) for batch in made])
    epochs = films.reshape(4, 6)
    assert [sorted(epoch) for epoch in epochs.tolist()] == [list(range(6))] * 4
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1
    labels = np.concatenate([batch["labels"] for batch in made])
    np.testing.assert_array_equal(labels, [[1 - f % 2, f % 2, 1] for f in films])
    # The sound says where a clip begins: film f is f tenths at its start and rises by a tenth in three seconds.
    first = np.concatenate([batch["audio"][:, 100] for batch in made])
    starts = (10 * first - films) * 3
    assert starts[films > 0].min() > 0.95 and starts.max() < 2.6 and len(np.unique(starts.round(2))) > 12


def test_a_stream_that_is_not_asked_for_is_not_read(ramps):
    sound = clip_batches(ramps, 2, ClipFormat(0.5, 8000, None), 3)(0)
    assert set(sound) == {"labels", "audio"}
    film = clip_batches(ramps, 2, ClipFormat(0.5, None, 5, (8, 8)), 3)(0)
    assert set(film) == {"labels", "video"}


def test_the_training_loop_takes_them(ramps):
    """Constants that are fitted to the labels become the labels' frequencies."""

    def loss(params, key, batch):
        return jnp.mean((params - batch["labels"]) ** 2), {}

    batches = clip_batches(ramps, 6, ClipFormat(0.5, 8000, None), 3)
    config = TrainConfig(steps=60, learning_rate=0.1, steps_per_call=5)
    state = train(loss, jnp.zeros(3), batches, config)
    np.testing.assert_allclose(state.params, [0.5, 0.5, 1.0], atol=0.05)


def test_settings_that_make_no_sense_are_refused(ramps):
    for settings in ({"batch_size": 0}, {"workers": 0}, {"examples": []}):
        with pytest.raises(ValueError, match="1 or more"):
            clip_batches(
                **({"examples": ramps, "batch_size": 1, "clips": CLIPS, "num_classes": 3} | settings)
            )
    with pytest.raises(ValueError, match="label 2 is not one of 2 classes"):
        clip_batches(ramps, 1, CLIPS, num_classes=2)
    with pytest.raises(ValueError, match="sound or film"):
        ClipFormat(1.0, None, None)
    with pytest.raises(ValueError, match="duration_s must be above 0"):
        ClipFormat(0.0)
