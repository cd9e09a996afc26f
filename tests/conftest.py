"How much of the notebooks the tests ran"


def pytest_terminal_summary(terminalreporter):
    "Say how many of the notebooks' code cells ran"
    cells = [v for r in terminalreporter.getreports('passed') for k, v in r.user_properties if k == 'cells']
    if cells:
        terminalreporter.write_line(
            '{} of {} code cells of {} notebooks ran'.format(*map(sum, zip(*cells)), len(cells))
        )
