#!/usr/bin/env bash
# Lightning 2.6.6. A `training_step` that returns None skips its batch, but the step counts: `global_step` and a
# schedule of interval "step" go on. Seen: 4 of 8 batches train, `global_step` is 8, and a rate that halves at each
# step is 2**-7 at the last batch, where 3 or 4 steps were taken before it.
# So a ramp by schedule skips rates where batches are skipped, and `max_steps` trains fewer steps than it says.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet lightning==2.6.6 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - 2>/dev/null <<'PY'
import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.rates, self.trained = torch.nn.Linear(4, 2), [], 0

    def training_step(self, batch, index):
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        if index % 2:
            return None
        self.trained += 1
        return self.layer(batch[0]).sum()

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        halving = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": halving, "interval": "step"}}


module = Module()
trainer = lightning.Trainer(
    max_epochs=1,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(module, DataLoader(TensorDataset(torch.randn(8, 4)), 1))
print(f"trained on {module.trained} batches; global_step {trainer.global_step}; rates {module.rates}")
assert module.trained == 4 and trainer.global_step == 8 and module.rates[-1] == 2.0**-7
PY
