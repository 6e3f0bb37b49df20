"""Results of one row agree; what looks like disagreement and is none passes."""

from dataclasses import replace

from submissions import problems, store
from tampering import TAMPERED, all_right, archived, honest, redone, with_provenance

from nsbench.results import OutputCheck, read_results


def checked(folder, **options):
    return problems(archived(folder, folder.parent / "x.zip"), **options)


def test_rows_of_other_seeds_recipes_and_checkpoints_stand_beside_each_other(tmp_path):
    folder = tmp_path / "results"
    for suite in ("clean", "fgsm"):
        for seed in (0, 1):
            store(folder, suite, seed=seed)
            store(folder, suite, "pretrained", seed=seed)
        for number, fields in enumerate(({"parent_digest": "7" * 16}, {"normalisation": "imagenet"}, {})):
            recipe = [read_results(folder)[0][0].provenance.recipe] if fields else []

            def another(one, fields=fields, number=number, recipe=recipe):
                own = one.provenance
                settings = recipe[0] if recipe else replace(own.recipe, settings={"steps": 9})
                digests = {"weights_digest": f"{number + 1}" * 16, "fit_key": f"{number + 4}" * 16}
                identity = f"{number + 1}{one.identity[1:]}"
                return replace(with_provenance(recipe=settings, **digests, **fields)(one), identity=identity)

            store(folder, suite, "finetune", change=another)
    assert checked(folder) == ()


def test_what_the_first_versions_did_not_keep_is_no_disagreement(tmp_path):
    folder = honest(tmp_path / "results")
    redone("clean", change=with_provenance(fit_key="", parent_digest="", mean=(), std=()))(folder)
    assert not [line for line in checked(folder) if "parent_digest" in line or "fit_key" in line or "mean" in line]


def test_a_model_that_does_not_repeat_its_outputs_is_for_the_health_flags(tmp_path):
    folder = honest(tmp_path / "results")
    redone("clean", all_right)(folder)
    assert any("are predicted otherwise than in suite 'clean'" in line for line in checked(folder))
    redone("fgsm", change=with_provenance(outputs=OutputCheck(8, False, 0.5)))(folder)
    assert checked(folder) == ()


def test_a_row_of_the_board_takes_no_other_weights(tmp_path):
    """The board would show the newest of both."""
    held = read_results(honest(tmp_path / "board"))[0]
    folder = tmp_path / "results"
    store(folder, "imagenet_r", TAMPERED, change=with_provenance(weights_digest="7" * 16, fit_key="8" * 16))
    assert checked(folder) == ()
    (line,) = checked(folder, held=held)
    assert "provenance.weights_digest is '7777777777777777', and" in line
    assert "in the results held here of the same row and seed" in line
