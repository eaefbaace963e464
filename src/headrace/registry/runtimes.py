"""Model runtimes: ONNX Runtime, and LightGBM's own library. Neither loads a trainer.

They stand here, below serving, so that the parity proof is of the very code that serves.
"""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from headrace.kernel.errors import CheckFailed, InvalidInput

INPUT_TYPES: dict[str, type[np.floating]] = {"tensor(float)": np.float32, "tensor(double)": np.float64}


class Runtime(Protocol):
    """A loaded model. `score` maps float64 [n, F] (null is NaN) to float64 [n]; not thread-safe for LightGBM."""

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """CheckFailed when the model fails on a row, InvalidInput when it does not take such rows."""
        ...


class OnnxRuntime:
    """A classifier or regressor in ONNX with one float32 or float64 input [n, F], on one thread.

    The score is the last column of its float output: the probability of the positive class, or the only column.
    """

    def __init__(self, artifact: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InvalidInput(f"the artifact is not a loadable ONNX model: {error}", hint="compile it again") from error
        inputs = self._session.get_inputs()
        outputs = [o.name for o in self._session.get_outputs() if o.type in ("tensor(float)", "tensor(double)")]
        if len(inputs) != 1 or inputs[0].type not in INPUT_TYPES or not outputs:
            found = ", ".join(f"{i.name}: {i.type}" for i in inputs) + " -> "
            found += ", ".join(f"{o.name}: {o.type}" for o in self._session.get_outputs())
            raise InvalidInput(
                f"the ONNX model is {found}; allowed: one tensor(float) or tensor(double) input and a float output",
                hint="export it with zipmap=False",
            )
        self._input = inputs[0].name
        self._dtype = INPUT_TYPES[inputs[0].type]
        self._outputs = [next((name for name in outputs if "prob" in name), outputs[0])]

    def score(self, matrix: np.ndarray) -> np.ndarray:
        try:
            (found,) = self._session.run(self._outputs, {self._input: matrix.astype(self._dtype)})
        except Exception as error:  # (the errors of ONNX Runtime have no class in common)
            raise CheckFailed(f"{type(error).__name__}: {error}", hint="mend the model, and register it again") from error
        column = found[:, -1] if found.ndim == 2 else found
        return np.asarray(column, dtype=np.float64)


class LightGbmRuntime:
    """A LightGBM text model through the library's C interface, on one thread.

    The Python package is not imported: it would load scikit-learn and pandas into the serving process.
    """

    def __init__(self, artifact: bytes) -> None:
        self._library = _lightgbm_library()
        self._handle = ctypes.c_void_p()
        iterations = ctypes.c_int()
        self._call("LGBM_BoosterLoadModelFromString", artifact, ctypes.byref(iterations), ctypes.byref(self._handle))
        features = ctypes.c_int()
        self._call("LGBM_BoosterGetNumFeature", self._handle, ctypes.byref(features))
        self._features = features.value

    def _call(self, function: str, *arguments: Any) -> None:
        if getattr(self._library, function)(*arguments) != 0:
            reason = self._library.LGBM_GetLastError().decode(errors="replace")
            raise InvalidInput(f"LightGBM refuses the model: {reason}", hint="compile it again")

    def score(self, matrix: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(matrix, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self._features:
            raise InvalidInput(f"the model takes {self._features} features, not {rows.shape[-1]}")
        scores = np.empty(len(rows), dtype=np.float64)
        length = ctypes.c_int64()
        self._call(
            "LGBM_BoosterPredictForMat", self._handle, rows.ctypes.data_as(ctypes.c_void_p), ctypes.c_int(1),
            ctypes.c_int32(len(rows)), ctypes.c_int32(self._features), ctypes.c_int(1), ctypes.c_int(0), ctypes.c_int(0),
            ctypes.c_int(-1), b"num_threads=1", ctypes.byref(length), scores.ctypes.data_as(ctypes.POINTER(ctypes.c_double)),
        )  # fmt: skip
        return scores

    def __del__(self) -> None:
        if self._handle:
            self._library.LGBM_BoosterFree(self._handle)


def _lightgbm_library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("lightgbm")
    if spec is None or spec.origin is None:
        raise InvalidInput("the model is served by LightGBM, which is not installed", hint="pip install 'headrace[train]'")
    folder = Path(spec.origin).parent
    path = next((p for p in (folder / "lib" / "lib_lightgbm.so", folder / "lib" / "lib_lightgbm.dylib") if p.exists()), None)
    if path is None:
        raise InvalidInput(f"`{folder}` holds no LightGBM library", hint="reinstall lightgbm")
    library = ctypes.CDLL(str(path))
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library


RUNTIMES: dict[str, type[OnnxRuntime] | type[LightGbmRuntime]] = {"onnx": OnnxRuntime, "lightgbm": LightGbmRuntime}


def load_runtime(engine: str, artifact: bytes) -> Runtime:
    """The runtime of a compiled model. InvalidInput for an unknown engine or an artifact it cannot load."""
    if engine not in RUNTIMES:
        raise InvalidInput(f"unknown model engine `{engine}`; known: {', '.join(RUNTIMES)}", hint="register it again")
    return RUNTIMES[engine](artifact)
