"""The grid of runs."""

from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainingArguments


def test_all_cells_of_the_text_budget_encode_as_many_captions():
    from consistency_study.grid import BUDGET_PART, CAPTIONS_A_CLIP, CELLS, MANY_SEEDS, STEPS, STEPS_PART

    budget = [cell for cell in CELLS.values() if BUDGET_PART in cell.parts]
    assert {cell.steps * cell.captions_a_step for cell in budget} == {CAPTIONS_A_CLIP}
    assert len(budget) >= 8
    assert {cell.steps for cell in CELLS.values() if STEPS_PART in cell.parts} == {STEPS}
    main = {name for name, cell in CELLS.items() if cell.num_seeds == MANY_SEEDS}
    assert {"mlclap", "cacl", "kcl", "akcl", "mlclap-budget", "kcl-budget", "akcl-budget"} <= main


def test_cells_have_the_options_that_their_titles_name():
    from consistency_study.grid import CELLS, TUNING_CELLS

    akcl_2 = CELLS["akcl-2"]
    assert (akcl_2.options, akcl_2.captions_a_step) == ({"learning_rate": 2e-3, "languages_per_step": 2}, 2)
    assert (CELLS["kcl-4-budget"].steps, CELLS["mlclap-budget"].steps, CELLS["kcl-budget"].steps) == (300, 1200, 150)
    frozen = CELLS["cacl-frozen-text"]
    assert frozen.options == {"learning_rate": 2e-4, "freeze_text": True}
    assert (frozen.begins_with, frozen.steps) == ("mlclap-budget", 200)
    thirds = CELLS["cacl-4-budget"]  # on AKCL's batches, at CACL's rate
    assert (thirds.objective, thirds.loss, thirds.steps) == ("akcl", "anchored_thirds", 300)
    assert thirds.options == {"learning_rate": 2e-3, "languages_per_step": 4}
    assert TUNING_CELLS["mlclap-0.00025"].options == {"learning_rate": 2.5e-4}
    assert (TUNING_CELLS["kcl-0.001"].num_seeds, TUNING_CELLS["kcl-0.004"].num_seeds) == (2, 1)


def test_arguments_and_losses_of_the_grid_exist(tmp_path):
    from consistency_study.grid import CELLS, TUNING_CELLS
    from consistency_study.losses import LOSSES

    for cell in (CELLS | TUNING_CELLS).values():
        options = {"objective": cell.objective, "max_steps": cell.steps, "use_cpu": True} | cell.options
        assert AtriTrainingArguments(str(tmp_path), languages=list(ATRI_LANGUAGES), **options).max_steps == cell.steps
        assert cell.loss is None or cell.loss in LOSSES
        assert cell.variant_of is None or cell.num_seeds <= CELLS[cell.variant_of].num_seeds
        assert cell.begins_with is None or cell.num_seeds <= CELLS[cell.begins_with].num_seeds


def test_settings_that_were_chosen_were_compared():
    from consistency_study import grid

    for objective, rates in grid.RATES.items():
        assert grid.LEARNING_RATES[objective] in grid.CLOSE_RATES[objective]
        assert set(grid.CLOSE_RATES[objective]) <= set(rates)
    assert grid.RANKING_WEIGHT in grid.RANKING_WEIGHTS
    assert not grid.CELLS.keys() & grid.TUNING_CELLS.keys()
