"""Multiply-accumulates of any torch network, counted from the functions that it calls while an input runs through it.

For networks that are not ours: sees what modules and Python call, not what runs inside TorchScript. Cheap in
time and memory, so that it can be done on the board before a measurement. Python 3.6, torch 1.13 or later.
"""

from typing import Any, Callable, Dict, Optional

import torch

# Functions that multiply matrices and have no rule here: where one is called, nothing is known.
_UNKNOWN = frozenset(
    ["einsum", "tensordot", "bilinear", "conv_tbc", "mv", "dot", "inner", "vdot", "addmv", "addbmm", "multi_dot"]
    + ["chain_matmul", "outer", "kron", "cdist", "lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell"]
    + ["rnn_tanh_cell", "rnn_relu_cell", "_native_multi_head_attention", "_transformer_encoder_layer_fwd"]
)

Given = Callable[[int, str], Any]  # position and name of an argument -> its value, None where it was not given


def _conv(given: Given, output: Any) -> Optional[int]:
    weight = given(1, "weight")
    return int(output.numel() * (weight.numel() // weight.shape[0]))


def _conv_transpose(given: Given, output: Any) -> Optional[int]:
    weight = given(1, "weight")
    return int(given(0, "input").numel() * (weight.numel() // weight.shape[0]))


def _convolution(given: Given, output: Any) -> Optional[int]:
    return (_conv_transpose if given(6, "transposed") else _conv)(given, output)


def _linear(given: Given, output: Any) -> Optional[int]:
    return int(output.numel() * given(1, "weight").shape[-1])


def _product(given: Given, output: Any) -> Optional[int]:
    return int(output.numel() * given(0, "input").shape[-1])


def _added_product(given: Given, output: Any) -> Optional[int]:
    return int(output.numel() * given(1, "batch1" if output.dim() == 3 else "mat1").shape[-1])


def _attention(given: Given, output: Any) -> Optional[int]:
    queries, keys = given(0, "query"), given(1, "key")
    return int((queries.numel() + output.numel()) * keys.shape[-2])


def _multi_head_attention(given: Given, output: Any) -> Optional[int]:
    """Three projections, products of queries with keys and of weights with values, and one more projection."""
    queries, keys, values, width = (given(index, "") for index in range(4))
    if given(5, "in_proj_weight") is None or queries.dim() != 3:
        return None
    projected = (2 * queries.numel() + keys.numel() + values.numel()) * width
    return int(projected + 2 * queries.numel() * keys.shape[0])


_RULES: Dict[str, Callable[[Given, Any], Optional[int]]] = {
    "conv1d": _conv,
    "conv2d": _conv,
    "conv3d": _conv,
    "conv_transpose1d": _conv_transpose,
    "conv_transpose2d": _conv_transpose,
    "conv_transpose3d": _conv_transpose,
    "convolution": _convolution,
    "linear": _linear,
    "mm": _product,
    "bmm": _product,
    "matmul": _product,
    "__matmul__": _product,
    "addmm": _added_product,
    "baddbmm": _added_product,
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head_attention,
}


def count(model: Any, example: torch.Tensor) -> Optional[int]:
    """Return the multiply-accumulates of `example`'s way through `model`; None where they cannot all be counted."""
    try:
        from torch.overrides import TorchFunctionMode
    except ImportError:  # before torch 1.13
        return None
    total = 0
    known = True

    class Counter(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal total, known
            named = kwargs or {}
            output = function(*args, **named)
            name = getattr(function, "__name__", "").partition(".")[0]
            if name in _UNKNOWN:
                known = False
            elif name in _RULES:
                found = _RULES[name](lambda index, key: args[index] if index < len(args) else named.get(key), output)
                known = known and found is not None
                total += found or 0
            return output

    with torch.no_grad(), Counter():
        model(example)
    return total if known else None
