"""Values, exceptions, classes and functions of users, as bytes: the only importer of cloudpickle."""
