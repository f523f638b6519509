"""How the page names the kinds of errors, by their index in `error_kinds.KINDS`."""

TITLES = ("wrong class", "loose box", "wrong class, loose box", "found twice", "nothing there", "missed")
MEANINGS = ("the box fits an object of another class", "the class is right, the box overlaps the object by less than half",
            "the box overlaps an object of another class by less than half",
            "the object is already found by a detection with a higher score",
            "there is no object", "an object that no detection is meant for")
