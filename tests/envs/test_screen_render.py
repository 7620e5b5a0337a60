"""What screens show, in symbols, facts and pictures, and the goals about them."""

import itertools
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from limbeck.envs import (
    APPS,
    AppGoal,
    is_open,
    parse_app_goal,
    read_screen_facts,
    render_screens,
    screen_icons,
    tokenize_app,
)
from limbeck.envs._screen_symbols import APP, HOME, LIST, RECENTS, ScreenSymbols, pack, unpack
from limbeck.envs.screen_facts import NO_APP, NO_PAGE
from limbeck.envs.screen_goals import APP_TEXTS, APP_WORDS, NUM_APP_TOKENS


draw = jax.jit(render_screens)


def symbols(**fields):
    """One screen, an empty home page but for the fields that are given."""
    plain = dict.fromkeys(ScreenSymbols._fields, 0)
    plain |= {"pages": 3, "opened": NO_APP, "notified": NO_APP, "asking": NO_APP}
    plain |= {"apps": np.full((3, 4), NO_APP), "badges": np.zeros((3, 4), int)}
    plain |= {"looks": np.zeros((3, 4), int), "texts": np.zeros((2, 4, 3), int)}
    return pack(ScreenSymbols(**{**plain, **fields}))


def page(**cells):
    """A home page with apps in cells, `at_5=7`: app 7 in cell 5."""
    apps = np.full(12, NO_APP)
    for name, app in cells.items():
        apps[int(name.removeprefix("at_"))] = app
    return apps.reshape(3, 4)


def picture(**fields):
    return np.asarray(draw(symbols(**fields)))


def seen_icon(image, app, top, left, size=22):
    """Whether the opaque pixels of an app's icon are in a picture."""
    icon = np.asarray(screen_icons.app_icons(size)[app])
    opaque = icon[..., 3] == 255
    return bool((image[top : top + size, left : left + size][opaque] == icon[..., :3][opaque]).all())


def test_fields_are_written_and_read_back():
    rng = np.random.default_rng(0)
    given = rng.integers(0, 64, (5, 7, 6, 4, 3)).astype(np.uint8)
    np.testing.assert_array_equal(pack(unpack(given)), given)
    np.testing.assert_array_equal(jax.jit(lambda x: pack(unpack(x)))(given), given)
    fields = unpack(symbols(mode=APP, page=1, opened=9, layout=2, minute=59, dialog=4, apps=page(at_6=11)))
    assert (fields.mode, fields.page, fields.opened, fields.layout) == (APP, 1, 9, 2)
    assert (fields.minute, fields.dialog, fields.apps[1, 2]) == (59, 4, 11)
    with pytest.raises(ValueError, match=r"uint8 \[..., 6, 4, 3\], got the shape \[7, 7, 3\]"):
        unpack(np.zeros((7, 7, 3), np.uint8))


# The mode, what it shows, and what is true: opened, page, icons by cell.
FACTS = [
    ({"mode": HOME, "page": 2, "apps": page(at_0=3, at_11=59)}, NO_APP, 2, {0: 3, 11: 59}),
    ({"mode": APP, "opened": 7, "apps": page(at_5=3)}, 7, NO_PAGE, {}),
    ({"mode": APP, "opened": 7, "notified": 3}, 7, NO_PAGE, {}),
    ({"mode": RECENTS, "apps": np.repeat([[1], [2], [3]], 4, 1)}, NO_APP, NO_PAGE, {}),
    # Dialogs: one lies over cell rows 0 and 1, another over 1 and 2.
    ({"mode": HOME, "page": 1, "dialog": 1, "apps": page(at_0=3, at_4=8, at_8=4)}, NO_APP, 1, {8: 4}),
    ({"mode": HOME, "page": 1, "dialog": 6, "apps": page(at_0=3, at_4=8, at_8=4)}, NO_APP, 1, {0: 3}),
    ({"mode": APP, "opened": 7, "dialog": 2, "asking": 7}, NO_APP, NO_PAGE, {}),
]


@pytest.mark.parametrize("fields, opened, number, icons", FACTS)
def test_facts(fields, opened, number, icons):
    expected = np.full(12, NO_APP)
    expected[list(icons)] = list(icons.values())
    given = np.stack([symbols(**fields)] * 2)
    for facts in (read_screen_facts(given), jax.jit(read_screen_facts)(given)):
        assert all(part.dtype == np.int32 for part in facts[:3]) and facts.covered.dtype == bool
        assert facts.opened.tolist() == [opened] * 2 and facts.page.tolist() == [number] * 2
        assert facts.icons.tolist() == [expected.tolist()] * 2
        assert facts.covered.tolist() == [fields.get("dialog", 0) > 0] * 2
        assert [bool(is_open(app, facts).all()) for app in range(60)] == [app == opened for app in range(60)]


def test_nothing_counts_as_open_under_a_dialog():
    shown = [symbols(mode=APP, opened=4, dialog=dialog, asking=4) for dialog in (0, 3)]
    facts = read_screen_facts(np.stack(shown))
    assert is_open(4, facts).tolist() == [True, False] and not is_open(5, facts).any()


def test_icons_on_a_home_page_are_those_of_the_sheet():
    for wallpaper in range(8):
        apps = np.arange(wallpaper * 7, wallpaper * 7 + 12).reshape(3, 4) % 60
        image = picture(wallpaper=wallpaper, apps=apps)
        for (row, column), app in np.ndenumerate(apps):
            assert seen_icon(image, app, 13 + 24 * row, 1 + 24 * column)
            assert not seen_icon(image, (app + 1) % 60, 13 + 24 * row, 1 + 24 * column)


def test_half_opaque_pixels_are_mixed_with_what_lies_below():
    plain, image = picture(wallpaper=2), picture(wallpaper=2, apps=page(at_5=30))
    icon = screen_icons.app_icons(22)[30].astype(int)
    below, shown = (each[37:59, 25:47].astype(int) for each in (plain, image))
    opacity = icon[..., 3:]
    assert ((opacity > 0) & (opacity < 255)).any()
    mixed = (icon[..., :3] * opacity + below * (255 - opacity)) / 255
    assert np.abs(shown - mixed).max() <= 1
    np.testing.assert_array_equal(np.delete(plain, np.s_[36:60], 0), np.delete(image, np.s_[36:60], 0))


def test_an_open_app_shows_its_icon_in_its_bar_and_others_in_its_content():
    apps = page(at_5=3, at_11=59)
    image = picture(mode=APP, opened=8, layout=1, apps=apps)
    assert seen_icon(image, 8, 13, 1) and seen_icon(image, 3, 37, 25) and seen_icon(image, 59, 61, 73)
    in_list = picture(mode=APP, opened=8, layout=LIST, apps=apps)
    assert seen_icon(in_list, 8, 13, 1) and seen_icon(in_list, 3, 40, 28, 16)
    assert not seen_icon(image, 8, 37, 25)


def test_cards_notifications_and_dialogs_show_icons_of_apps_that_are_not_open():
    cards = picture(mode=RECENTS, apps=np.repeat([[1], [2], [3]], 4, 1))
    assert all(seen_icon(cards, app, 24 * app - 11, 1) for app in (1, 2, 3))
    assert seen_icon(picture(notified=12), 12, 4, 4, 16)
    for dialog, top in ((1, 13), (2, 37), (5, 13), (6, 37)):
        assert seen_icon(picture(mode=APP, opened=8, dialog=dialog, asking=33), 33, top, 1)


def test_a_dialog_darkens_what_it_leaves_free():
    free, under = (picture(apps=page(at_9=4), dialog=dialog, asking=5) for dialog in (0, 1))
    np.testing.assert_array_equal(under[60:], free[60:] >> 1)
    np.testing.assert_array_equal(under[:12], free[:12] >> 1)
    # The dialog itself is opaque: nothing of what lies below it counts.
    other = picture(apps=page(at_1=6, at_6=7), dialog=1, asking=5)
    np.testing.assert_array_equal(under[12:60], other[12:60])


def test_every_field_of_a_screen_can_be_seen_where_it_applies():
    texts = np.zeros((2, 4, 3), int)
    home = {"apps": page(at_0=1), "notified": 2, "dialog": 4, "asking": 3}
    changes = [
        (home, {"page": 1}), (home, {"pages": 2}), (home, {"wallpaper": 1}), ({}, {"hour": 3}),
        ({}, {"minute": 3}), ({}, {"battery": 3}), (home, {"notified": 5}), (home, {"asking": 5}),
        (home, {"dialog": 2}), (home, {"apps": page(at_3=1)}), (home, {"mode": RECENTS}),
        (home, {"texts": texts + [1, 0, 0]}), (home, {"texts": texts + [0, 1, 0]}),
        ({"apps": page(at_1=1)}, {"badges": np.ones((3, 4), int)}), ({}, {"texts": texts + [0, 0, 1]}),
        ({"mode": APP, "opened": 1}, {"opened": 2}), ({"mode": APP, "opened": 1}, {"layout": 1}),
        ({"mode": APP, "opened": 1}, {"looks": np.ones((3, 4), int)}),
    ]  # fmt: skip
    for first, change in changes:
        assert (picture(**first) != picture(**{**first, **change})).any(), change


def test_pictures_are_the_same_alone_in_batches_and_at_another_time():
    rng = np.random.default_rng(1)
    screens = rng.integers(0, 64, (2, 3, 6, 4, 3)).astype(np.uint8)
    screens[..., 0, 0, 0] %= 3
    together = np.asarray(draw(screens))
    assert together.shape == (2, 3, 96, 96, 3) and together.dtype == np.uint8
    mapped = jax.jit(jax.vmap(jax.vmap(render_screens)))(jnp.asarray(screens))
    np.testing.assert_array_equal(together, mapped)
    for i, j in itertools.product(range(2), range(3)):
        np.testing.assert_array_equal(together[i, j], draw(screens[i, j]))


def test_apps_look_and_are_called_different():
    assert len(APPS) == len({name.lower() for name in APPS}) == 60
    for size in screen_icons.ICON_SIZES:
        icons = screen_icons.app_icons(size).astype(float)
        shown = icons[..., :3] * icons[..., 3:] / 255
        for one, other in itertools.combinations(range(60), 2):
            assert np.abs(shown[one] - shown[other]).mean() > 10, (APPS[one], APPS[other])
    assert len({tuple(tokenize_app(app)) for app in range(60)}) == 60


def test_the_sheet_is_made_of_a_theme(tmp_path):
    mapping = screen_icons.read_mapping(screen_icons.MAPPING)
    assert tuple(mapping) == APPS
    rng = np.random.default_rng(0)
    drawn = {}
    for app, path in enumerate(mapping.values()):
        for size in (22, 16):
            file = tmp_path / f"{size}x{size}" / f"{path}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            drawn[app, size] = rng.integers(0, 256, (size, size, 4)).astype(np.uint8)
            PIL.Image.fromarray(drawn[app, size]).save(file)
    out = tmp_path / "sheet.png"
    screen_icons.main([str(tmp_path), "--out", str(out)])
    sheet = np.asarray(PIL.Image.open(out))
    assert sheet.shape == (6 * 22, 10 * 38, 4)
    np.testing.assert_array_equal(sheet[22:44, 38 * 3 : 38 * 3 + 22], drawn[13, 22])
    np.testing.assert_array_equal(sheet[22:38, 38 * 3 + 22 : 38 * 4], drawn[13, 16])

    PIL.Image.new("RGBA", (8, 8)).save(tmp_path / "22x22" / f"{mapping['Zoo']}.png")
    with pytest.raises(ValueError, match=r"face-monkey.png has 22x22 pixels, got 8x8"):
        screen_icons.make_sheet(tmp_path, mapping)
    with pytest.raises(ValueError, match="has no icon"):
        screen_icons.make_sheet(pathlib.Path("nowhere"), mapping)
    with pytest.raises(ValueError, match=r"names the apps Mail, .*; got Post"):
        screen_icons.make_sheet(tmp_path, {"Post": "x"})


def test_goals_in_words():
    goal = AppGoal(APPS.index("Remote Desktop"))
    assert [goal.text(style) for style in ("state", "screenshot", "imperative", "imperative_app")] == [
        "Screenshot of Remote Desktop on Android", "Screenshot of Remote Desktop", "Open Remote Desktop",
        "Open the Remote Desktop app",
    ]  # fmt: skip
    for app, style in itertools.product(range(60), APP_TEXTS):
        assert parse_app_goal(AppGoal(app).text(style)) == AppGoal(app)
    assert parse_app_goal("  open  the MAIL app. ") == AppGoal(0)
    with pytest.raises(
        ValueError, match="'open Spam' is not a goal. Goals read 'Screenshot of Mail on Android'"
    ):
        parse_app_goal("open Spam")
    with pytest.raises(ValueError, match="state, screenshot, imperative, imperative_app, got 'loud'"):
        goal.text("loud")
    with pytest.raises(ValueError, match="0 to 59, got 60"):
        AppGoal(60)


def test_tokens_are_the_words_of_the_name():
    for app, name in enumerate(APPS):
        tokens = tokenize_app(app)
        assert tokens.dtype == np.int32 and tokens.shape == (2,) and tokens.max() < NUM_APP_TOKENS
        assert [APP_WORDS[token - 1] for token in tokens if token] == name.lower().split()


def test_reading_the_icons_needs_no_other_library_than_the_core():
    code = (
        "import sys; from limbeck.envs.screen_icons import app_icons; app_icons(22);"
        "print([m for m in ('torch', 'cv2', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
