"""joblib over a cluster: `register_zactor()`, then `parallel_config(backend="zactor")`."""

from zactor.util.joblib.backend import register_ray, register_zactor

__all__ = ["register_ray", "register_zactor"]
