"""The settings of a distillation that takes a second."""

TINY = {
    "dataset": "digits", "poster_width": 24, "poster_height": 12, "poster_class_num_x": 5, "poster_class_num_y": 2,
    "class_area_width": 8, "class_area_height": 8, "patch_num_x": 6, "patch_num_y": 2, "distill_batch_size": 6,
    "width": 4, "window": 2, "totwindow": 4, "epochs": 4, "steps_per_epoch": 2, "batch_size": 64, "num_stages": 2,
    "stage_nets": 2, "stage_steps": 3, "num_train_eval": 2, "budgets": (2, 4), "inner_lr": 0.01, "lr": 0.05,
    "checkpoint_every": 1, "print_freq": 1, "device": "cpu",
}  # fmt: skip
