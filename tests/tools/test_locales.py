"""How the words of a new node reach every language."""

from tools.locales import definitions, followed, menu, missing

INFO = {
    "I2VNew": {
        "display_name": "New",
        "description": "Does it.",
        "category": "I2V Diffusion/video",
        "input": {
            "required": {"width": ["INT", {"tooltip": "How wide."}]},
            "optional": {"mask": ["MASK", {"tooltip": "Where."}]},
        },
        "output_name": ["images"],
        "output_tooltips": ["The frames."],
    },
    "LoadVideo": {"category": "image/video"},
}


def test_english_is_taken_from_the_host_in_the_form_of_the_front_end() -> None:
    assert definitions(INFO) == {
        "I2VNew": {
            "display_name": "New",
            "description": "Does it.",
            "inputs": {
                "width": {"name": "width", "tooltip": "How wide."},
                "mask": {"name": "mask", "tooltip": "Where."},
            },
            "outputs": {"0": {"name": "images", "tooltip": "The frames."}},
        }
    }


def test_parts_of_the_menu_that_the_host_has_too_are_left_to_it() -> None:
    assert menu(INFO) == {"nodeCategories": {"I2V Diffusion": "I2V Diffusion"}}


def test_what_is_new_is_empty_and_listed_and_what_went_is_dropped() -> None:
    words = followed({"a": {"b": "old", "c": "new"}}, {"a": {"b": "alt", "d": "weg"}})
    assert words == {"a": {"b": "alt", "c": ""}}
    assert missing(words) == ["a.c"]
    assert missing(followed(words, words)) == ["a.c"]
