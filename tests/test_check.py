"""`airjax check`: results beside counts, dots, boxes, COCO's JSON and label images."""

import csv
import json
import shutil

import numpy as np
import pytest
import tifffile
from conftest import mistake
from PIL import Image

from airjax.cli.found import truths_of
from airjax.cli.main import main
from airjax.errors import InputError
from airjax.inference.writers import OBJECT, PICTURE

SIZE = (40, 60)  # height and width of the pictures
FOUND = {  # file and page: boxes
    ("a.png", ""): [(2, 2, 12, 12), (20, 5, 30, 15), (40, 20, 50, 30)],
    ("below/b.tif", ""): [(5, 5, 15, 15)],
    ("c.png", ""): [],
}
TRUE = {  # of a: one is missed, one found is false; c has an object that is missed
    "a.png": [(2, 2, 12, 13), (21, 5, 31, 15), (50, 2, 58, 10)],
    "below/b.tif": [(5, 5, 15, 15)],
    "c.png": [(0, 0, 9, 9)],
}


@pytest.fixture
def write(tmp_path):
    """Writes results, with the label images of their boxes."""

    def written(found=FOUND, masks=False):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        with open(out / "counts.csv", "w") as counts, open(out / "objects.csv", "w") as objects:
            pictures, table = csv.writer(counts), csv.writer(objects)
            pictures.writerow(PICTURE)
            table.writerow(OBJECT)
            for (file, page), boxes in found.items():
                n = len(boxes)
                pictures.writerow([file, page, n, 0.9, n, n, 0, False])
                for i, (x0, y0, x1, y1) in enumerate(boxes):
                    centre = ((x0 + x1) / 2, (y0 + y1) / 2)
                    rest = (100, 1, 100, 0, False)
                    row = (file, page, i, n, 0.9, x0, y0, x1, y1, 0.9 - i / 10, *centre, *rest)
                    table.writerow(row)
                if masks:
                    path = out / "masks" / (f"{file}.{page}.tif" if page != "" else f"{file}.tif")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    tifffile.imwrite(path, labels_of(boxes).astype(np.uint16))
        return out

    return written


def labels_of(boxes, size=SIZE):
    image = np.zeros(size, np.int32)
    for i, (x0, y0, x1, y1) in enumerate(boxes, 1):
        image[y0:y1, x0:x1] = i
    return image


def coco(truth, **more):
    images = [{"id": i, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
              for i, name in enumerate(truth)]  # fmt: skip
    boxes = [(i, box) for i, some in enumerate(truth.values()) for box in some]
    annotations = [
        {"id": n, "image_id": i, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for n, (i, (x0, y0, x1, y1)) in enumerate(boxes)
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1}]} | more


@pytest.fixture
def shown(tmp_path, capsys):
    """The table and the lines that check prints of a truth in tmp_path, without its lines."""

    def of(truth, flags="", out="out"):
        capsys.readouterr()
        main(f"check {tmp_path}/{out} {tmp_path}/{truth} {flags}".split())
        return " ".join(capsys.readouterr().out.replace("│", "|").split())

    return of


# forms of truth

SCORES = (
    "boxes by hand, found, matched (IoU 0.5) | 5, 4, 3 | | boxes: precision, recall, F1 | "
    "0.750, 0.600, 0.667 | | boxes: AP at IoU 0.5 | 0.600 |"
)


def as_csv(folder):
    rows = [(file, *box) for file, boxes in TRUE.items() for box in boxes]
    text = "\n".join(",".join(map(str, row)) for row in rows)
    (folder / "t.csv").write_text(f"file,x0,y0,x1,y1\n{text}\n")
    return "t.csv"


def as_coco(folder):
    (folder / "t.json").write_text(json.dumps(coco(TRUE)))
    return "t.json"


def as_polygons(folder):
    data = coco(TRUE)
    for annotation in data["annotations"]:
        x, y, width, height = annotation.pop("bbox")
        polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
        annotation["segmentation"] = [polygon]
    (folder / "t.json").write_text(json.dumps(data))
    return "t.json"


def as_labels(folder):
    (folder / "t/below").mkdir(parents=True)
    Image.fromarray(labels_of(TRUE["a.png"]).astype(np.uint8)).save(folder / "t/a_mask.png")
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folder / "t/a.png")  # the picture
    b = 7000 * labels_of(TRUE["below/b.tif"])  # numbers may have gaps
    tifffile.imwrite(folder / "t/below/b_cp_masks.tif", b.astype(np.float32))
    palette = Image.fromarray(3 * labels_of(TRUE["c.png"]).astype(np.uint8), "L").convert("P")
    palette.putpalette(list(range(255, -1, -1)) * 3)
    palette.save(folder / "t/c_Labels.png")
    return "t"


@pytest.mark.parametrize("form", [as_csv, as_coco, as_polygons, as_labels])
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_boxes_of_every_form(form, tmp_path, write, shown):
    write()
    text = shown(form(tmp_path))
    assert SCORES in text
    assert "| bias (found less by hand) | -0.33 |" in text
    assert "| look at a.png | 1 missed, 1 false | | look at c.png | 1 missed, 0 false |" in text
    assert "look at below/b.tif" not in text and "masks:" not in text
    assert ("passed over: names without" in text) == (form is as_labels)
    with Image.open(tmp_path / "out/check/agreement.png") as picture:
        assert np.asarray(picture).std() > 10


def test_masks_of_label_images(tmp_path, write, shown):
    """Masks that predict wrote are compared by their pixels, beside the boxes."""
    write(masks=True)
    text = shown(as_labels(tmp_path))
    assert SCORES in text and SCORES.replace("boxes", "masks") in text
    labels = labels_of(TRUE["a.png"])
    labels[4:10, 4:12] = 0  # the box stays as it is, most of the pixels do not
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "t/a_mask.png")
    text = shown("t")
    assert SCORES in text and "masks by hand, found, matched (IoU 0.5) | 5, 4, 2 |" in text


def test_predicted_masks_are_a_truth(tmp_path, write, shown):
    """Corrected label images keep the names that predict gave them."""
    write(masks=True)
    shutil.move(tmp_path / "out/masks", tmp_path / "t")
    assert "by hand, found, matched (IoU 0.5) | 4, 4, 4 |" in shown("t")


def test_dots_within_half_an_object(tmp_path, write, shown):
    write()  # objects are 10 pixels: 5 are near
    (tmp_path / "t.csv").write_text("file,x,y\na.png,7,12\na.png,25,15.1\nb.tif,10,10\nc.png,,\n")
    text = shown("t.csv")
    assert "dots by hand, found, matched (within 5.0 pixels) | 3, 4, 2 |" in text
    assert "dots: precision, recall, F1 | 0.500, 0.667, 0.571 |" in text and "AP" not in text
    (tmp_path / "t.csv").write_text("file,x0,y0,x1,y1\na.png,7,12,8,13\na.png,44,24,45,25\n")
    text = shown("t.csv")
    assert "boxes of one pixel: taken as dots" in text and "| 2, 3, 1 |" in text


def test_crowds_are_left_out_of_both(tmp_path, write, shown):
    write()
    data = coco(TRUE)
    crowd = {"id": 99, "image_id": 0, "bbox": [38, 18, 20, 20], "iscrowd": 1}  # the false one
    data["annotations"].append(crowd)
    (tmp_path / "t.json").write_text(json.dumps(data))
    text = shown("t.json")
    assert "annotations with iscrowd or ignore: 1; they, and what is found there," in text
    assert "(IoU 0.5) | 5, 3, 3 |" in text and "| bias (found less by hand) | -0.67 |" in text
    assert "| look at a.png | 1 missed, 0 false |" in text


def test_pictures_of_one_side_are_named(tmp_path, write, shown):
    write()
    truth = {"a.png": TRUE["a.png"], "other.png": [], "x/third.png": []}
    (tmp_path / "t.json").write_text(json.dumps(coco(truth)))
    text = shown("t.json")
    assert "pictures without truth: 2: below/b.tif, c.png" in text
    assert "of the truth that are not in the results: 2: other.png, x/third.png" in text
    assert "| pictures counted by hand | 1, mean 3.0 |" in text and "limits" not in text


def test_pages_are_matched(tmp_path, write, shown):
    boxes = [[(1, 1, 9, 9)], [], [(1, 1, 9, 9), (20, 20, 30, 30)]]
    write({("s.tif", i): some for i, some in enumerate(boxes)}, masks=True)
    stack = np.stack([labels_of(some) for some in [boxes[0], boxes[0], boxes[2]]])
    tifffile.imwrite(tmp_path / "s_labels.tif", stack.astype(np.uint8), photometric="minisblack")
    text = shown("s_labels.tif")
    assert "boxes by hand, found, matched (IoU 0.5) | 4, 3, 3 |" in text
    assert "look at s.tif page 1 | 1 missed, 0 false |" in text
    (tmp_path / "t.csv").write_text("file,page,count\ns.tif,0,1\ns.tif,2,5\ns.tif,7,1\n")
    text = shown("t.csv")
    assert "look at s.tif page 2 | 2 found, 5 by hand |" in text and "| 2, mean 3.0 |" in text
    assert "without truth: 1: s.tif page 1 " in text and "results: 1: s.tif page 7" in text
    (tmp_path / "t.csv").write_text("file,count\ns.tif,4\n")  # of all pages
    assert "look at s.tif | 3 found, 4 by hand |" in shown("t.csv")


def test_names_that_are_not_utf8(tmp_path, write, shown):
    out = write()
    for path in (out / "counts.csv", out / "objects.csv"):
        path.write_bytes(path.read_bytes().replace(b"a.png", b"\xff.png"))
    (tmp_path / "t.csv").write_bytes(b"file,count\n\xff.png,9\n")
    assert r"look at \udcff.png | 3 found, 9 by hand |" in shown("t.csv")


def test_masks_without_numbers_are_taken_apart(tmp_path, write, shown):
    write()
    Image.fromarray(labels_of(TRUE["a.png"]) > 0).save(tmp_path / "a.png")
    text = shown("a.png")
    assert "masks without numbers, each piece is taken as an object: 1: a.png" in text
    assert "(IoU 0.5) | 3, 3, 2 |" in text


def test_nothing_found_and_nothing_to_find(tmp_path, write, shown):
    write({("c.png", ""): []})
    (tmp_path / "t.json").write_text(json.dumps(coco({"c.png": []})))
    text = shown("t.json")
    assert "| boxes: precision, recall, F1 | -, -, - |" in text and "AP" not in text


# names


@pytest.mark.parametrize(
    ("truth", "file"),
    [
        ("x/a.png", "x/a.png"), ("./x/a.png", "x/a.png"), ("x\\a.png", "x/a.png"),
        ("x/a.tif", "x/a.png"), ("y/a.png", None), ("y/b.png", "x/b.png"), ("b.json", "x/b.png"),
        ("B.png", None), ("b_mask.png", "x/b.png"), ("b_cp_masks.tif", "x/b.png"),
        ("x/a.png.tif", "x/a.png"), ("_mask.png", None), ("bmask.png", None),
        ("cell_mask.png", "cell_mask.png"),
    ],
)  # fmt: skip
def test_names_that_belong_together(truth, file):
    found = ["x/a.png", "z/a.png", "x/b.png", "cell_mask.png", "cell.png"]
    if truth == "y/a.png":
        with pytest.raises(InputError, match=r"must tell apart x/a.png and z/a.png"):
            truths_of(found, [truth])
        return
    assert truths_of(found, [truth]) == ({file: truth} if file else {})


def test_two_truths_of_a_picture():
    with pytest.raises(InputError, match=r"one truth for a.png, got a_mask.png and a_label.png"):
        truths_of(["a.png"], ["a_mask.png", "a_label.png"])


# hostile input

BOXES = "file,x0,y0,x1,y1\n"
BAD = {
    "none.csv": (None, "must be a file, or a folder of label images"),
    "empty.csv": ("", "must have a column file and a column count, or x and y, or x0"),
    "header.csv": ("file,count\n", "must have a row or more"),
    "short.csv": ("file,count\na.png\n", "must have numbers as count, of a.png, got nothing"),
    "nan.csv": ("file,count\na.png,nan\n", "must have numbers as count, of a.png, got nan"),
    "less.csv": ("file,count\na.png,-1\n", "must have counts from 0, of a.png, got -1"),
    "twice.csv": ("file,count\na.png,1\na.png,2\n", "must have one row for each picture"),
    "page.csv": ("file,page,count\na.png,x,1\n", "must have pages from 0, of a.png, got x"),
    "name.csv": ("file,count\n,1\n", "must have a file's name in each row"),
    "swap.csv": (BOXES + "a.png,5,1,2,9\n", "must have x0 <= x1 and y0 <= y1, of a.png"),
    "part.csv": (BOXES + "a.png,5,,2,9\n", "must have numbers as y0, of a.png, got nothing"),
    "cut.json": ('{"images": [', "cannot be read as JSON (Expecting value"),
    "deep.json": ("[" * 100_000, "cannot be read as JSON ("),
    "empty.json": ("", "cannot be read as JSON ("),
    "list.json": ("[]", "must be a COCO data set"),
    "none.json": ('{"images": [], "annotations": []}', "must be a COCO data set"),
    "results.json": (json.dumps([{"image_id": 1, "bbox": [1, 2, 3, 4]}]), "must be a COCO"),
    "shape.json": ('{"images": [1], "annotations": []}', "must have the fields of COCO"),
    "field.json": ('{"images": [{"id": 1}], "annotations": []}', "must have the fields of COCO"),
    "size.json": (json.dumps(coco(TRUE)).replace('"width": 60', '"width": "x"'),
                  "must have the fields of COCO"),
    "small.json": (json.dumps(coco(TRUE)).replace('"width": 60', '"width": 30'),
                   "must have the size of a.png, where an object reaches to 50, 30, got 30 x 40"),
    "image.json": (json.dumps(coco(TRUE, images=coco({"c.png": []})["images"])),
                   "must have the images of its annotations, got 1"),
    "box.json": (json.dumps(coco(TRUE)).replace("[2, 2, 10, 11]", "[2, 2, 10]"),
                 "must have bbox as [x, y, width, height] in each annotation, got [2, 2, 10]"),
    "huge.json": (json.dumps(coco(TRUE)).replace("[2, 2, 10, 11]", f"[2, 2, 10, {10**400}]"),
                  "must have the fields of COCO"),
    "page.json": (json.dumps(coco(TRUE)).replace('"id": 0, "f', '"id": 0, "page": "x", "f'),
                  "must have the fields of COCO"),
    "text.json": (json.dumps(coco(TRUE)).replace("[2, 2, 10, 11]", '[2, 2, "x", 11]'),
                  "must have the fields of COCO"),
    "list-id.json": (json.dumps(coco(TRUE)).replace('"image_id": 0', '"image_id": [0]'),
                     "must have the fields of COCO"),
    "dot.csv": ("file,count\n/,1\n", "must name pictures that are in the results"),
    "utf16.csv": ("file,count\na.png,1\n".encode("utf-16"), "must have a column file and"),
    "minus.json": (json.dumps(coco(TRUE)).replace("[2, 2, 10, 11]", "[2, 2, 10, -1]"),
                   "must have bbox as"),
    "ids.json": (json.dumps(coco(TRUE)).replace('"id": 1,', '"id": 0,'),
                 "must have a different id for each image"),
    "match.json": (json.dumps(coco({"q.png": []})), "must name pictures that are in the results"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_truth_that_is_none(name, tmp_path, write, capsys):
    out, (text, rule) = write(), BAD[name]
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert mistake(f"check {out} {tmp_path}/{name}", capsys).startswith(f"TRUTH {rule}")
    assert not (out / "check").exists()


LABELS = labels_of(TRUE["a.png"])


@pytest.mark.parametrize("masks", [False, True])
def test_label_images_of_another_size(masks, tmp_path, write, capsys):
    out, path = write(masks=masks), tmp_path / "a.png"
    Image.fromarray(LABELS[:30, :45].astype(np.uint8)).save(path)
    error = mistake(f"check {out} {path}", capsys)
    assert error.startswith("TRUTH must have the size of a.png") and error.endswith("got 45 x 30")


def test_other_mistakes_with_label_images(tmp_path, write, capsys):
    out = write(masks=True)
    (tmp_path / "t").mkdir()
    line = f"check {out} {tmp_path}/t"
    assert mistake(line, capsys).startswith("TRUTH must hold label images; there are none")
    tifffile.imwrite(tmp_path / "t/a.tif", np.stack(3 * [LABELS]), photometric="minisblack")
    assert mistake(line, capsys) == "TRUTH must have one page of a.png, as the results have, got 3"
    tifffile.imwrite(tmp_path / "t/a.tif", LABELS)
    (out / "masks/a.png.tif").unlink()
    missing = mistake(line, capsys)
    assert missing.startswith(f"{out}/masks/a.png.tif cannot be read (No such file or directory)")
    assert mistake(f"{line} --calibrate", capsys).startswith("--calibrate needs a table of counts")


@pytest.mark.parametrize(
    ("name", "old", "new", "rule"),
    [
        ("counts.csv", "c.png,,0", "c.png,,x", "RESULTS must have numbers as count, of c.png"),
        ("counts.csv", "c.png", "d.png", None),
        ("counts.csv", "a.png", "d.png", "RESULTS must have each picture in counts.csv"),
        ("objects.csv", "score", "s", "RESULTS must have a column score"),
        ("objects.csv", ",20,5,", ",,5,", "RESULTS must have numbers as x0, of a.png"),
        ("objects.csv", "7.0,7.0", "nan,nan", None),
    ],
)
def test_results_that_were_changed(name, old, new, rule, tmp_path, write, shown, capsys):
    out = write()
    as_csv(tmp_path)
    (out / name).write_text((out / name).read_text().replace(old, new))
    if rule is None:
        assert "found, matched" in shown("t.csv")
    else:
        assert mistake(f"check {out} {tmp_path}/t.csv", capsys).startswith(rule)


def test_results_without_tables(tmp_path, write, capsys):
    out = write()
    as_csv(tmp_path)
    (out / "objects.csv").unlink()
    line = f"check {out} {tmp_path}/t.csv"
    rule = f"RESULTS cannot be read (No such file or directory), got {out}/"
    assert mistake(line, capsys) == rule + "objects.csv"
    (out / "counts.csv").unlink()
    assert mistake(line, capsys) == rule + "counts.csv"
