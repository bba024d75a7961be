"""Range tests where people train: each with its package, where that is installed."""

import copy
import warnings

import numpy as np
import pytest
import torch
from small_torch import LOSS, loader, network, tensors
from torch import nn

import lrrt
from lrrt.errors import InputError

torch.set_num_threads(1)


def by_hand(model, optimizer, rates, loss=LOSS):
    """The losses of a loop by hand over the loader, at ``rates``."""
    losses = []
    batches = [batch for _ in range(len(rates) // 6 + 1) for batch in loader()]
    for rate, (x, y) in zip(rates, batches, strict=False):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def trained(model, optimizer, data, epochs=2):
    """The losses of a training, with the batches in their order."""
    losses = []
    for _ in range(epochs):
        for x, y in data:
            optimizer.zero_grad()
            value = LOSS(model(x), y)
            value.backward()
            optimizer.step()
            losses.append(value.item())
    return losses


# ---- accelerate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seedable", [False, True])
def test_accelerate_amid_an_accumulation(seedable):
    accelerate = pytest.importorskip("accelerate")
    found = []
    for test in (False, True):
        accelerate.state.AcceleratorState._reset_state(True)
        accelerate.state.GradientState._reset_state()
        configuration = accelerate.DataLoaderConfiguration(use_seedable_sampler=seedable)
        accelerator = accelerate.Accelerator(
            cpu=True, gradient_accumulation_steps=3, dataloader_config=configuration
        )
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        torch.manual_seed(0)
        model, optimizer, data = accelerator.prepare(model, optimizer, loader(shuffle=True))
        record = []
        for epoch in range(2):
            for index, (x, y) in enumerate(data):
                with accelerator.accumulate(model):
                    loss = LOSS(model(x), y)
                    accelerator.backward(loss)
                    optimizer.step()
                    optimizer.zero_grad()
                record.append((loss.item(), accelerator.sync_gradients))
                if test and (epoch, index) in ((0, 1), (0, 5), (1, 0)):
                    curve = lrrt.range_test(model, LOSS, data, optimizer, steps=20, start=1e-4)
                    assert np.ptp(curve.loss) > 0.1
        found.append((record, *model.state_dict().values()))
    assert found[0][0] == found[1][0] and any(sync for _, sync in found[0][0])
    assert all(map(torch.equal, found[0][1:], found[1][1:]))


# ---- fastai -------------------------------------------------------------------------------------


@pytest.fixture
def learner():
    basics = pytest.importorskip("fastai.basics")
    pytest.importorskip("fastai.callback.progress")  # adds no_bar
    from fastai.optimizer import SGD, OptimWrapper

    def made(own):
        model = network()
        x, y = tensors()
        basics.set_seed(0)
        data = basics.DataLoaders.from_dsets(
            [*zip(x, y, strict=True)], [*zip(x, y, strict=True)], bs=16, device="cpu"
        )
        options = {"mom": 0.9} if own else {"momentum": 0.9}
        kind = SGD if own else lambda p, **_: OptimWrapper(p, torch.optim.SGD, **options)
        made = basics.Learner(data, model, loss_func=LOSS, opt_func=kind, wd=0.0)
        made.create_opt()
        return made

    return made


@pytest.mark.parametrize("own", [True, False], ids=["its own optimiser", "PyTorch's"])
def test_fastai_steers_the_learners_optimiser_and_puts_the_order_back(learner, own):
    learn, plain = learner(own), learner(own)
    rate = learn.opt.hypers[0]["lr"]
    curve = lrrt.range_test(
        learn.model, learn.loss_func, learn.dls.train, learn.opt, start=1e-3, stop=None
    )
    assert learn.opt.hypers[0]["lr"] == rate and np.ptp(curve.loss) > 0.3
    twin = network()
    first = next(iter(plain.dls.train))
    assert LOSS(twin(first[0]), first[1]).item() == pytest.approx(curve.loss[0])
    plain = learner(own)
    for made in (learn, plain):
        with made.no_bar(), made.no_logging():
            made.fit(1, 0.1)
    assert all(
        map(torch.equal, learn.model.state_dict().values(), plain.model.state_dict().values())
    )


# ---- PyTorch Geometric --------------------------------------------------------------------------


def test_pytorch_geometric():
    geometric = pytest.importorskip("torch_geometric")
    from torch_geometric.loader import DataLoader as GraphLoader
    from torch_geometric.nn import GCNConv, global_mean_pool

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = GCNConv(4, 8), nn.Linear(8, 2)

        def forward(self, data):
            hidden = self.layer(data.x, data.edge_index).relu()
            return self.head(global_mean_pool(hidden, data.batch))

    torch.manual_seed(0)
    edges = torch.tensor([[0, 1, 2, 1], [1, 2, 0, 0]])
    graphs = [
        geometric.data.Data(x=torch.randn(3, 4) + k % 2, edge_index=edges, y=torch.tensor([k % 2]))
        for k in range(32)
    ]
    model = Net()
    twin = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    data = GraphLoader(graphs, batch_size=8)
    curve = lrrt.range_test(
        model,
        data=data,
        optimizer=optimizer,
        batch_loss=lambda model, batch: LOSS(model(batch), batch.y),
        start=1e-4,
        end=1,
        stop=None,
    )
    assert curve.about["batch_size"] == 8
    other, losses = torch.optim.Adam(twin.parameters(), lr=0.01), []
    batches = [batch for _ in range(25) for batch in data]
    for rate, batch in zip(curve.lr.tolist(), batches, strict=True):
        other.param_groups[0]["lr"] = rate
        other.zero_grad()
        loss = LOSS(twin(batch), batch.y)
        loss.backward()
        other.step()
        losses.append(loss.item())
    assert curve.loss.tolist() == losses


# ---- skorch -------------------------------------------------------------------------------------


def test_skorch():
    skorch = pytest.importorskip("skorch")
    x, y = (a.numpy() for a in tensors())

    def made():
        torch.manual_seed(0)
        net = skorch.NeuralNetClassifier(
            network, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, max_epochs=2
        )
        net.set_params(verbose=0, batch_size=16, train_split=None)
        return net.initialize()

    plain, net = made(), made()
    curve = lrrt.range_test(net.module_, net.criterion_, (x, y), net.optimizer_, batch_size=16)
    assert np.ptp(curve.loss) > 0.1
    for each in (plain, net):
        each.partial_fit(x, y)
    assert plain.history[:, "train_loss"] == net.history[:, "train_loss"]


# ---- optimisers of other packages ---------------------------------------------------------------


def test_schedule_free_with_its_warm_up_and_its_modes():
    schedulefree = pytest.importorskip("schedulefree")
    model, twin = network(), network()
    optimizer = schedulefree.AdamWScheduleFree(model.parameters(), lr=0.01, warmup_steps=1000)
    options = {"start": 1e-4, "end": 1.0, "stop": None}
    curve = lrrt.range_test(
        model, LOSS, loader(), optimizer, validation=loader(), validate_every=50, **options
    )
    assert "warmup_steps=1000" in curve.notes[0]
    assert not optimizer.state and optimizer.param_groups[0]["warmup_steps"] == 1000
    other = schedulefree.AdamWScheduleFree(twin.parameters(), lr=0.01)
    other.train()
    assert curve.loss.tolist() == by_hand(twin, other, curve.lr.tolist())
    other.eval()
    with torch.no_grad():
        assert curve.val_loss[-1] == pytest.approx(LOSS(twin(tensors()[0]), tensors()[1]).item())


@pytest.mark.parametrize(
    ("package", "name"), [("prodigyopt", "Prodigy"), ("pytorch_optimizer", "DAdaptAdam")]
)
def test_an_estimate_of_the_optimisers_own_is_told(package, name):
    model, make = network(), getattr(pytest.importorskip(package), name)
    optimizer = make(model.parameters(), lr=1.0)
    before = optimizer.param_groups[0]["d"]
    curve = lrrt.range_test(model, LOSS, loader(), optimizer)
    assert "estimate d" in curve.flaw and "leave at 1" in curve.suggest().cautions[0]
    assert optimizer.param_groups[0]["d"] == before


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("schedulefree", "AdamWScheduleFree"),
        ("schedulefree", "SGDScheduleFree"),
        ("timm.optim", "RMSpropTF"),
        ("timm.optim", "MADGRAD"),
        ("pytorch_optimizer", "FTRL"),
    ],
)
def test_rates_that_count_by_and_by_are_used(package, name):
    make, model = getattr(pytest.importorskip(package), name), network()
    options = {"momentum": 0.9} if name == "RMSpropTF" else {}
    optimizer = make(model.parameters(), lr=0.1, **options)
    curve = lrrt.range_test(model, LOSS, loader(), optimizer, stop=None)
    assert "rate_departure" not in curve.about


def test_timms_layer_decay_is_noted():
    timm = pytest.importorskip("timm")
    pytest.importorskip("timm.optim")
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24, num_heads=2, num_classes=3
    )
    optimizer = timm.optim.create_optimizer_v2(model, "adamw", lr=1e-3, layer_decay=0.5)
    data = [(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))]
    notes = lrrt.range_test(model, LOSS, data, optimizer, steps=10).notes
    assert any("lr_scale" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "options", "create_graph"),
    [("SAM", {"base_optimizer": torch.optim.SGD, "lr": 0.1}, False), ("AdaHessian", {}, True)],
)
def test_optimisers_that_want_closures_or_graphs(name, options, create_graph):
    package = pytest.importorskip("pytorch_optimizer")
    model = network()
    optimizer = getattr(package, name)(model.parameters(), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        curve = lrrt.range_test(
            model, LOSS, loader(), optimizer, create_graph=create_graph, start=1e-4, steps=60
        )
    assert curve.loss.min() < 0.8 * curve.loss[0] and "rate_departure" not in curve.about


def test_8_bit_adam_goes_on_as_without_the_test():
    optim = pytest.importorskip("bitsandbytes").optim
    found = []
    for test in (False, True):
        model = network()
        optimizer = optim.Adam8bit(model.parameters(), lr=0.01, min_8bit_size=16)
        losses = trained(model, optimizer, loader(), epochs=1)
        states = optimizer.state[next(model.parameters())]
        assert states["state1"].dtype == torch.uint8
        if test:
            curve = lrrt.range_test(model, LOSS, loader(), optimizer, steps=20, start=1e-4, end=1)
            assert np.ptp(curve.loss) > 0.1
        found.append(losses + trained(model, optimizer, loader()))
    assert found[0] == found[1]


def test_an_optimiser_that_ignores_its_rate_is_told():
    package = pytest.importorskip("pytorch_optimizer")
    model = network()
    optimizer = package.AdaFactor(model.parameters(), lr=1e-3)
    curve = lrrt.range_test(model, LOSS, loader(), optimizer)
    assert "AdaFactor does not use its learning rate" in curve.flaw


# ---- peft ---------------------------------------------------------------------------------------


def test_lora():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        network(), peft.LoraConfig(r=2, target_modules=["0", "2"], lora_dropout=0.1)
    )
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=0.01)
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(0)
    curve = lrrt.range_test(
        model, LOSS, loader(), optimizer, start=1e-4, validation=loader(), validate_every=20
    )
    assert curve.loss.min() < curve.loss[0]
    assert all(map(torch.equal, before.values(), model.state_dict().values()))
    frozen = torch.optim.AdamW([p for p in model.parameters() if not p.requires_grad], lr=0.01)
    with pytest.raises(InputError, match="optimizer: .*all that it holds are frozen"):
        lrrt.range_test(model, LOSS, loader(), frozen)


# ---- torchmetrics -------------------------------------------------------------------------------


def test_a_metric_whose_state_is_lists():
    torchmetrics = pytest.importorskip("torchmetrics")

    class Judged(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network()
            self.auroc = torchmetrics.AUROC("multiclass", num_classes=3)

    model = Judged()

    def batch_loss(model, batch):
        outputs = model.network(batch[0])
        model.auroc.update(outputs.detach(), batch[1])
        return LOSS(outputs, batch[1])

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch_loss(model, tensors(32))
    before = model.auroc.compute()
    lrrt.range_test(model, None, loader(), optimizer, batch_loss=batch_loss)
    assert len(model.auroc.preds) == 1 and model.auroc.update_count == 1
    model.auroc._computed = None
    assert model.auroc.compute() == before
