"""All tests; the folder is a package so that suites can import `tests.support`."""
