import numpy as np
import pytest

from sharpzo.descent import Adam, Sgd, cosine

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Sgd(), lambda p: torch.optim.SGD(p, lr=0.1)),
        (Sgd(momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        (Adam(), lambda p: torch.optim.Adam(p, lr=0.1)),
        (Adam(eps=1e-4), lambda p: torch.optim.Adam(p, lr=0.1, eps=1e-4)),
        (Adam(betas=(0.8, 0.9)), lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.9))),
        (
            Adam(eps=1e-4, decay=0.01),
            lambda p: torch.optim.AdamW(p, lr=0.1, eps=1e-4, weight_decay=0.01),
        ),
    ],
    ids=["sgd", "momentum", "adam", "eps", "betas", "adamw"],
)
def test_optimisers_move_as_torch_does_under_a_cosine_schedule(ours, theirs):
    start, steps = np.array([[1.0, -2.0], [3.0, 0.5]]), 12
    parameter = torch.tensor(start, requires_grad=True)
    optimiser = theirs([parameter])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    point = start.copy()
    for step in range(steps):
        optimiser.zero_grad()
        (parameter.sin() * parameter).sum().backward()
        gradient = np.cos(point) * point + np.sin(point)
        point = ours.move(point, gradient, 0.1 * cosine(step, steps))
        optimiser.step()
        schedule.step()
        assert np.allclose(point, parameter.detach().numpy(), rtol=1e-12, atol=1e-12)
    assert not np.allclose(point, start, atol=1e-2)
    assert start.tolist() == [[1.0, -2.0], [3.0, 0.5]]  # arguments are left as they are
