"""Archives of results: reproducible, and readable by nobody's trust."""

import stat
import struct
import zipfile
from dataclasses import replace

import pytest
from submissions import STEM, problems, store

from nsbench import registry
from nsbench.data.robustbench_images import ROBUSTBENCH
from nsbench.errors import ResultError, UsageError
from nsbench.results import npz, outcomes_path, read_results
from nsbench.submission import Limits, check_archive, merge, open_archive, pack
from nsbench.submission.archive import unpacked_size


def test_packing_is_reproducible_and_passes_the_check(packed, tmp_path):
    again = pack(tmp_path / "results", tmp_path / "again.zip")
    assert again.path.read_bytes() == packed.path.read_bytes()
    assert again.digest == packed.digest
    checked = check_archive(packed.path)
    assert checked.problems == ()
    assert checked.accepted
    assert checked.digest == packed.digest
    assert sorted(result.suite for result in checked.results) == ["clean", "fgsm"]


@pytest.mark.parametrize(
    "suite", [one.name for one in registry.suites.values() if one.conditions()[0].split != ROBUSTBENCH]
)  # whose images shapes10 has not
def test_every_suite_passes(tmp_path, suite):
    store(tmp_path / "results", suite)
    assert problems(pack(tmp_path / "results", tmp_path / "x.zip").path) == ()


def test_a_model_of_a_zoo_can_be_shared(tmp_path):
    store(tmp_path / "results", change=lambda result: replace(result, model="robustbench:Salman2020Do_R50:Linf"))
    packed = pack(tmp_path / "results", tmp_path / "zoo.zip").path
    assert problems(packed) == ()
    (added,) = merge(packed, tmp_path / "merged").added
    assert added.relative_to(tmp_path).parts[2] == "robustbench@Salman2020Do_R50@Linf"


def test_a_model_whose_file_has_a_space_can_be_shared(tmp_path):
    """`./my model.py:three`: the member's name is safe, and two that become one stand beside each other."""
    names = ("my model:three", "my-model:three")
    for digit, name in zip("67", names, strict=True):
        own = made_by(digit)
        store(tmp_path / "results", change=lambda result, name=name, own=own: own(replace(result, model=name)))
    packed = pack(tmp_path / "results", tmp_path / "own.zip")
    members = [name for name in open_archive(packed.path).files if name.endswith(".json")]
    assert len(members) == packed.results == 2
    assert {name.rpartition("/")[0] for name in members} == {"results/shapes10/my-model@three/ns"}
    assert problems(packed.path) == ()
    merge(packed.path, tmp_path / "merged")
    assert sorted(result.model for result in read_results(tmp_path / "merged")[0]) == sorted(names)
    assert pack(tmp_path / "merged", tmp_path / "again.zip").digest == packed.digest


def made_by(digit):
    """A change to a result of other weights."""

    def change(result):
        own = replace(result.provenance, weights_digest=digit * 16, fit_key=digit * 16, parent_digest=f"a{digit}" * 8)
        return replace(result, identity=digit * 16, provenance=own)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "vit\x1b[31m"}, "'model': holds control or invisible characters"),
        ({"model": "vit<b>"}, "holds markup"),
        ({"model": "v" * 101}, "is not a model's name"),
        ({"model": "模型"}, "is not a model's name"),
        ({"seed": 2**63}, "'seed': is larger than any count"),
        ({"title": ""}, "title: '' is not 1 to 200 characters"),
    ],
)
def test_what_no_check_would_accept_is_not_packed(tmp_path, change, words):
    stored = store(tmp_path / "results", change=lambda result: replace(result, **change))
    with pytest.raises(ResultError, match="cannot be submitted: ") as raised:
        pack(tmp_path / "results", tmp_path / "x.zip")
    assert f"{stored.path}: cannot be submitted: " in str(raised.value)
    assert words in str(raised.value)
    assert not (tmp_path / "x.zip").exists()


def test_packing_chooses_methods_and_refuses_what_is_broken(tmp_path):
    stored = store(tmp_path / "results")
    store(tmp_path / "results", method="madry")
    assert pack(tmp_path / "results", tmp_path / "x.zip", ["madry"]).results == 1
    with pytest.raises(UsageError, match=r"no results of method 'trades'; it has: madry, ns"):
        pack(tmp_path / "results", tmp_path / "x.zip", ["trades"])
    with pytest.raises(UsageError, match="holds no results"):
        pack(tmp_path / "nothing", tmp_path / "x.zip")
    outcomes_path(stored).write_bytes(b"x")
    with pytest.raises(ResultError, match="differs from the digest"):
        pack(tmp_path / "results", tmp_path / "x.zip")


def zipped(path, *members):
    """A zip of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def special(mode, name=f"{STEM}.json"):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x.json",
        "results/../../x.json",
        "results/a/b/../x.json",
        "results\\a\\b\\c\\x.json",
        "results/a/b/c/d/x.json",
        "results/a/b/x.json",
        "results/a/b/c/.hidden.json",
        "results/a/b/c/x.py",
        "results/a/b/c/x y.json",
        "results/a/b/c/<img>.json",
        "results/a/b/c./x.json",
        "results/con/b/c/x.json",
        "C:/results/a.json",
        "results/a/b/c/",
        "results/a/b/c/x\u202e.json",
        "results/a/b/c/" + "x" * 200 + ".json",
    ],
)
def test_names_that_leave_their_place_are_refused(tmp_path, name):
    with pytest.raises(ResultError, match=r"x\.zip: member '.*(is not results|not every system)"):
        open_archive(zipped(tmp_path / "x.zip", (name, b"{}")))


def test_links_duplicates_and_unreadable_archives_are_refused(tmp_path):
    path = tmp_path / "x.zip"
    with pytest.raises(ResultError, match="link or another special file"):
        open_archive(zipped(path, (special(stat.S_IFLNK | 0o777), b"/etc/passwd")))
    with pytest.warns(UserWarning, match="Duplicate"):
        zipped(path, (f"{STEM}.json", b"{}"), (f"{STEM}.json", b"{}"))
    with pytest.raises(ResultError, match="is there twice"):
        open_archive(path)
    with pytest.raises(ResultError, match="is there twice"):  # one file where names have no case
        open_archive(zipped(path, (f"{STEM}.json", b"{}"), (f"{STEM.replace('ns', 'NS')}.json", b"{}")))
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ResultError, match="is no archive that can be read"):
        open_archive(path)
    with pytest.raises(UsageError, match="does not exist"):
        open_archive(tmp_path / "absent.zip")
    with pytest.raises(ResultError, match=r"no manifest\.json"):
        open_archive(zipped(path, (f"{STEM}.json", b"{}")))


def test_sizes_are_limited_before_anything_is_unpacked(tmp_path):
    path = tmp_path / "x.zip"
    bomb = zipped(path, (f"{STEM}.json", b" " * (5 << 20)))
    assert bomb.stat().st_size < 10_000
    with pytest.raises(ResultError, match=r"has 5,242,880 bytes; at most 4,194,304 are read"):
        open_archive(bomb)
    with pytest.raises(ResultError, match="would unpack to"):
        open_archive(bomb, Limits(archive=1 << 20, json=8 << 20))
    with pytest.raises(ResultError, match="bytes; at most 10 are read"):
        open_archive(bomb, Limits(archive=10))
    with pytest.raises(ResultError, match="lists more than 0 members"):
        open_archive(bomb, Limits(files=0))


ENTRY = b"PK\x01\x02" + struct.pack("<6H3L5H2L", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"


def listing(count, stated, wide):
    """A zip's list of so many members without the members, and its end; `wide`: with the end of 64 bits."""
    size = count * len(ENTRY)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, stated, stated, size, 0, 0)
    if wide:
        before = b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, count, count, size, 0)
        before += b"PK\6\7" + struct.pack("<LQL", 0, size, 1)
        end = before + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    return ENTRY * count + end


@pytest.mark.parametrize(("stated", "wide"), [(65000, False), (3, False), (0, True)])
def test_long_lists_of_members_are_refused_before_they_become_objects(tmp_path, monkeypatch, stated, wide):
    path = tmp_path / "x.zip"
    path.write_bytes(listing(200_000, stated, wide))
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("all members were made objects of"))
    with pytest.raises(ResultError, match="lists more than 20,000 members"):
        open_archive(path)
    with pytest.raises(zipfile.BadZipFile, match="lists more than 20,000 members"):
        unpacked_size(path.read_bytes())
    with pytest.raises(ValueError, match="lists more than 20,000 members"):
        npz.unpack(path.read_bytes())


def test_nothing_in_an_archive_is_left_unread(packed, tmp_path):
    content = packed.path.read_bytes()
    comment = content[:-2] + b"\x03\0abc"
    for changed in (content + b"x", content + b"\0" * 70_000, b"x" + content, comment, content + content[-22:]):
        packed.path.write_bytes(changed)
        with pytest.raises(ResultError, match=r"ns\.zip: is no archive that can be read .*(bytes|members)"):
            open_archive(packed.path)


def test_digests_must_be_those_of_the_manifest(packed):
    content = bytearray(packed.path.read_bytes())
    place = content.find(b'"NS"')
    content[place + 1 : place + 3] = b"SN"
    packed.path.write_bytes(bytes(content))
    with pytest.raises(ResultError, match=r"Bad CRC|differs from its digest"):
        open_archive(packed.path)


def test_the_manifest_must_list_just_what_is_there(packed):
    with zipfile.ZipFile(packed.path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for wrong in (members[:-1], [*members, ("results/a/b/c/x.json", b"{}")]):
        with pytest.raises(ResultError, match="but not in both"):
            open_archive(zipped(packed.path, *wrong))
    with pytest.raises(ResultError, match="differs from its digest"):
        open_archive(zipped(packed.path, *members[:-1], (members[-1][0], b"other")))
    for manifest in (b"[]", b'{"format": 1}', b'{"format": 9, "files": {}}', b"{" * 5000, b'{"a": NaN}', b"\xff"):
        with pytest.raises(ResultError):
            open_archive(zipped(packed.path, ("manifest.json", manifest)))
