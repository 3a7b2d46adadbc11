"""Data sets whose classes stand in a table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vitrail.datasets.table import ColumnNames, find_table_layout
from vitrail.errors import DataError


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def found(layout):
    return [(file.path, file.label, file.part, file.patient) for file in layout.files]


def refusal(table: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        find_table_layout(table, **options)
    assert str(caught.value).startswith(f"{table}: ")
    return str(caught.value)


IMAGES = ("img/1.png", "img/2.png", "img/3.png", "img/4.png")


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("path,label,split,patient_id", ","),
        ("Image Path;Class;Subset;Subject", ";"),
        ("FILENAME\tDiagnosis\tset\tPatient ID", "\t"),
        ("image,dx,Partition,lesion_id", ","),
        ("img,target,usage,Participant", ","),
    ],
)
def test_columns_are_recognised_by_their_usual_names(tmp_path, header, delimiter):
    touch(tmp_path, *IMAGES)
    rows = ["img/1.png,sick,Train,p1", "img/2.png,well,training,p2", "img/3.png,sick,VAL,p3", "img/4.png,well,test,"]
    table = write(tmp_path / "labels.csv", "\r\n".join([header, *(row.replace(",", delimiter) for row in rows)]) + "\r\n")
    layout = find_table_layout(table)
    assert layout.root == tmp_path
    assert found(layout) == [
        ("img/1.png", "sick", "train", "p1"),
        ("img/2.png", "well", "train", "p2"),
        ("img/3.png", "sick", "validation", "p3"),
        ("img/4.png", "well", "test", ""),
    ]
    assert [file.source for file in layout.files] == [tmp_path / path for path in IMAGES]


def test_columns_that_the_person_names(tmp_path):
    touch(tmp_path, *IMAGES)
    table = write(
        tmp_path / "t.csv",
        "label,where,truth,who,when\nx,img/1.png,a,7,test\nx,img/2.png,b,7,train\ny,img/3.png,a,8,train\ny,img/4.png,b,7,train\n",
    )
    wished = ColumnNames(path="where", label="Truth", part="when", patient="who")
    layout = find_table_layout(table, columns=wished)
    assert found(layout)[:2] == [("img/1.png", "a", "test", "7"), ("img/2.png", "b", "train", "7")]
    assert layout.notes == ("t.csv: file from where, class from truth, part from when, patient from who; not used: label.",)
    message = refusal(table, columns=ColumnNames(label="verdict"))
    assert "data.columns.label must be a column of the table, and 'verdict' is none" in message
    assert "Found: label, where, truth, who, when." in message


def test_a_column_of_files_is_recognised_by_what_stands_in_it(tmp_path):
    touch(tmp_path, *IMAGES)
    rows = "".join(f"/kaggle/{number}/x.png,img/{number}.png,{'ab'[number % 2]}\n" for number in (1, 2, 3, 4))
    layout = find_table_layout(write(tmp_path / "t.csv", "path,stored as,label\n" + rows))
    assert [path for path, *_ in found(layout)] == list(IMAGES)


def test_names_without_extension_in_several_folders(tmp_path):
    touch(tmp_path, "part_1/ISIC_0001.jpg", "part_1/ISIC_0002.jpg", "part_2/ISIC_0003.JPG", "part_2/ISIC_0003.txt")
    table = write(tmp_path / "meta.csv", "lesion_id,image_id,dx,age\nH1,ISIC_0001,nv,20\nH1,ISIC_0002,nv,20\nH2,isic_0003,mel,\n")
    layout = find_table_layout(table)
    assert [(file.path, file.label, file.patient) for file in layout.files] == [
        ("part_1/ISIC_0001.jpg", "nv", ""),  # two lesions of three images are too few groups to be believed
        ("part_1/ISIC_0002.jpg", "nv", ""),
        ("part_2/ISIC_0003.JPG", "mel", ""),
    ]
    assert "not used: lesion_id, age" in layout.notes[0]


def test_one_column_per_class(tmp_path):
    names = [f"ISIC_{number}" for number in range(40)]
    touch(tmp_path, *(f"in/{name}.jpg" for name in names))
    rows = [f"{name},{float(number % 2 == 0)},{float(number % 2)},0.0,{number % 5}" for number, name in enumerate(names)]
    rows[7] = "ISIC_7,0.0,0.0,0.0,1"
    table = write(tmp_path / "truth.csv", "image,MEL,NV,UNK,site\n" + "\n".join(rows))
    layout = find_table_layout(table, folder=tmp_path / "in")
    assert len(layout.files) == 39
    assert {(file.path, file.label) for file in layout.files} >= {("ISIC_0.jpg", "MEL"), ("ISIC_1.jpg", "NV")}
    assert "truth.csv: 1 rows left out, because the class is missing: 'ISIC_7'." in layout.notes


def test_zeros_and_ones_that_are_no_classes_are_not_taken_for_them(tmp_path):
    touch(tmp_path, *IMAGES)
    table = write(tmp_path / "t.csv", "file,smoker,male\nimg/1.png,1,1\nimg/2.png,0,1\nimg/3.png,0,0\nimg/4.png,1,0\n")
    assert "no column with the class was recognised" in refusal(table)


@pytest.mark.parametrize(("cells", "labels"), [("0 1 1", "0 1 1"), ("0.0 2.0 0.0", "0 2 0"), ("0.5 1.0 1.0", "0.5 1.0 1.0")])
def test_numbers_as_classes(tmp_path, cells, labels):
    touch(tmp_path, *IMAGES)
    rows = "".join(f"img/{row}.png,{cell}\n" for row, cell in enumerate(cells.split(), start=1))
    layout = find_table_layout(write(tmp_path / "t.csv", "file,level\n" + rows), columns=ColumnNames(label="level"))
    assert [file.label for file in layout.files] == labels.split()


@pytest.mark.parametrize(
    ("encoding", "word"),
    [("utf-8", "gesäß"), ("utf-8-sig", "gesäß"), ("latin-1", "gesäß"), ("utf-16", "gesäß"), ("utf-8", "腫瘍")],
)
def test_encodings(tmp_path, encoding, word):
    touch(tmp_path, *IMAGES)
    table = write(tmp_path / "t.csv", f"file,label\nimg/1.png,{word}\nimg/2.png,b\n", encoding)
    assert found(find_table_layout(table))[0][:2] == ("img/1.png", word)


def test_quotes_blanks_commas_and_empty_lines(tmp_path):
    touch(tmp_path, "a, b.png", "c.png")
    table = write(tmp_path / "t.csv", '\n"file" , label \n"a, b.png", "x"\n\n  c.png  ,y z\n,\n')
    assert [(path, label.strip('"')) for path, label, *_ in found(find_table_layout(table))] == [
        ("a, b.png", "x"),
        ("c.png", "y z"),
    ]


def test_paths_from_another_computer(tmp_path):
    touch(tmp_path, "set/train/a/1.png", "set/test/a/1.png", "set/train/b/2.png")
    (tmp_path / "set/test/a/1.png").write_bytes(b"other")
    rows = r"C:\data\set\train\a\1.png,a /kaggle/input/set/test/a/1.png,a ../input/elsewhere/2.png,b"
    table = write(tmp_path / "set" / "t.csv", "path,label\n" + rows.replace(" ", "\n"))
    assert [path for path, *_ in found(find_table_layout(table))] == ["test/a/1.png", "train/a/1.png", "train/b/2.png"]


def test_what_leads_out_of_the_folder_is_never_read(tmp_path):
    touch(tmp_path, "secret/9.png", "set/1.png", "set/2.png")
    rows = [
        "1.png,a",
        "2.png,b",
        "../secret/9.png,a",
        f"{tmp_path}/secret/9.png,b",
        f"{tmp_path}/set/../set/1.png,a",
        "/etc/passwd,a",
    ]
    layout = find_table_layout(write(tmp_path / "set" / "t.csv", "file,class\n" + "\n".join(rows)))
    assert [path for path, *_ in found(layout)] == ["1.png", "2.png"]
    assert any(
        note.startswith(f"t.csv: 3 rows left out, because the path leads out of {tmp_path}/set: ") for note in layout.notes
    )


def test_paths_relative_to_the_table_when_the_images_are_elsewhere(tmp_path):
    touch(tmp_path, "images/1.png", "images/2.png")
    table = write(tmp_path / "tables" / "t.csv", "file,class\n../images/1.png,a\n../images/2.png,b\n")
    assert [path for path, *_ in found(find_table_layout(table, folder=tmp_path / "images"))] == ["1.png", "2.png"]


def test_bad_rows_are_told_and_never_stop_the_search(tmp_path):
    touch(tmp_path, *IMAGES, "img/5.png", "img/6.png", "img/unlisted.png")
    rows = [
        *(
            "img/1.png,a,train",
            "img/2.png,b,test",
            "img/1.png,a,train",
            "img/3.png,,train",
            "img/4.png,a,holdout",
            "img/lost.png,b,test",
        ),
        *("img/5.png,a,train", "img/5.png,b,train", ",a,train", "img/6.png,NA,train", ".,a,train", "img/\x00.png,a,train"),
    ]
    layout = find_table_layout(write(tmp_path / "t.csv", "file,label,split\n" + "\n".join(rows)))
    assert found(layout) == [
        ("img/1.png", "a", "train", ""),
        ("img/2.png", "b", "test", ""),
        ("img/lost.png", "b", "test", ""),
    ]
    assert layout.notes[1:7] == (
        "t.csv: 1 rows left out, because the file stands in the table already, with the same class: 'img/1.png'.",
        "t.csv: 2 rows left out, because the class is missing: 'img/3.png', 'img/6.png'.",
        "t.csv: 1 rows left out, because the part is none of train, val and test: 'img/4.png'.",
        "t.csv: 1 rows left out, because the file stands in the table already, with another class (all its rows are left out): "
        "'img/5.png'.",
        "t.csv: 3 rows left out, because the file is missing or no file name: '', '.', 'img/\\x00.png'.",
        "t.csv: 1 files that the table names are missing: 'img/lost.png'.",
    )
    assert layout.notes[7].startswith(
        "t.csv: 5 images beside the listed ones are not in the table and were passed over: 'img/3.png'"
    )
    assert len(layout.notes) == 8


def test_a_file_that_is_not_in_its_folder_is_never_taken_from_another_one(tmp_path):
    touch(tmp_path, "train/a/1.png", "train/b/2.png", "test/a/3.png")
    layout = find_table_layout(write(tmp_path / "t.csv", "path,label\ntrain/a/1.png,a\ntrain/b/2.png,b\ntrain/b/3.png,b\n"))
    assert [file.path for file in layout.files if file.source.exists()] == ["train/a/1.png", "train/b/2.png"]
    assert "t.csv: 1 files that the table names are missing: 'train/b/3.png'." in layout.notes


def test_files_that_were_moved_are_found_and_told(tmp_path):
    touch(tmp_path, "1.png", "2.png")
    layout = find_table_layout(write(tmp_path / "t.csv", "path,label\nscans/1.png,a\nscans/2.png,b\n"))
    assert [path for path, *_ in found(layout)] == ["1.png", "2.png"]
    assert "2 files stand in other folders than the table says" in layout.notes[1]


def test_one_name_for_several_files(tmp_path):
    touch(tmp_path, "a/1.png", "A_copy/1.png", "a/2.png", "b/2.png", "c/3.png")
    (tmp_path / "b/2.png").write_bytes(b"another")
    layout = find_table_layout(write(tmp_path / "t.csv", "id,label\n1,x\n2,y\n3,y\n"))
    assert [path for path, *_ in found(layout)] == ["A_copy/1.png", "c/3.png"]
    assert "t.csv: 1 rows left out, because several different files have that name: '2'." in layout.notes
    assert "t.csv: 1 names stand for several files of equal size; the first by path is taken: '1'." in layout.notes


def test_parts_from_folders_where_the_table_names_none(tmp_path):
    touch(tmp_path, "train/1.png", "train/2.png", "test/3.png")
    layout = find_table_layout(write(tmp_path / "t.csv", "image,label\n1,a\n2,b\n3,a\n"))
    assert {(path, part) for path, _, part, _ in found(layout)} == {
        ("train/1.png", "train"),
        ("train/2.png", "train"),
        ("test/3.png", "test"),
    }


def test_folds_are_no_parts_and_groups_of_two_are_no_patients(tmp_path):
    touch(tmp_path, *IMAGES)
    table = write(
        tmp_path / "t.csv",
        "file,label,fold,group\n" + "".join(f"img/{n}.png,{'ab'[n % 2]},{n},{'ct'[n % 2]}\n" for n in (1, 2, 3, 4)),
    )
    layout = find_table_layout(table)
    assert {(part, patient) for *_, part, patient in found(layout)} == {(None, "")}
    assert "t.csv: column fold is no part, for its words ('1', '2', '3') are not train, val, test." in layout.notes
    assert "column fold must say train, val or test" in refusal(table, columns=ColumnNames(part="fold"))


def test_volumes_of_a_table(tmp_path):
    touch(tmp_path, *IMAGES)
    table = write(
        tmp_path / "t.csv",
        "file,label,SeriesInstanceUID\n" + "".join(f"img/{n}.png,{'ab'[n % 2]},1.2.{n}\n" for n in (1, 2, 3, 4)),
    )
    assert [file.volume for file in find_table_layout(table).files] == ["1.2.1", "1.2.2", "1.2.3", "1.2.4"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the table has no rows"),
        ("file,label\n", "the table has no rows"),
        ("age,sex\n20,m\n30,f\n", "no column with the file of the image was recognised"),
        ("file,age\nimg/1.png,20\nimg/2.png,30\n", "no column with the class was recognised"),
        ("file,label,label\nimg/1.png,a,b\n", "Found twice: label"),
        ("file,label\nimg/1.png,a\nimg/2.png,a\n", "no column with the class was recognised"),
        (
            "file,label\nimg/1.png,a|b\nimg/2.png,a\n",
            "every image must belong to one class. Found several at once in column label: 'a|b'",
        ),
        ("file,label\nno/7.png,a\nno/8.png,b\n", "none of the 2 files that column file names was found"),
        ("file,label\n" + "".join(f"img/1.png,{n}\n" for n in range(90)), "holds 90 different values in 90 rows"),
        ('file,label\nimg/1.png,"' + "x" * 200_000, "the table is damaged"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path, text, words):
    touch(tmp_path, *IMAGES)
    assert words in refusal(write(tmp_path / "t.csv", text))


def test_a_refusal_names_the_columns_found_and_needed(tmp_path):
    message = refusal(write(tmp_path / "t.csv", "age,sex\n20,m\n"))
    assert "Found: age, sex." in message
    assert "file (path, filename, image_id...)" in message
    assert "data.columns.path, data.columns.label, data.columns.part and data.columns.patient" in message


def test_a_missing_table_is_refused(tmp_path):
    assert "the table cannot be read (No such file or directory)" in refusal(tmp_path / "absent.csv")


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    touch(tmp_path, *IMAGES)
    columns = {
        "image_id": [1, 2, 3, 4],
        "label": pyarrow.array(["a", "b", "a", None]).dictionary_encode(),
        "grade": [1.0, 2.0, None, 2.0],
        "pixels": [[1], [2], [3], [4]],
    }
    table = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table(columns), table)
    layout = find_table_layout(table)
    assert [(path, label) for path, label, *_ in found(layout)] == [("img/1.png", "a"), ("img/2.png", "b"), ("img/3.png", "a")]
    assert "t.parquet: columns with lists, images or other nested contents are not read: pixels." in layout.notes
    graded = find_table_layout(table, columns=ColumnNames(label="grade"))
    assert [file.label for file in graded.files] == ["1", "2", "2"]
    table.write_bytes(b"no parquet at all")
    assert "the table is damaged" in refusal(table)


def test_parquet_without_its_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").touch()
    assert "pip install 'vitrail[tables]'" in refusal(tmp_path / "t.parquet")
