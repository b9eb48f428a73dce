"""Runs a notebook's code cells one after the other, as Jupyter does, without Jupyter:
run_cells.py NOTEBOOK FIGURES. Each figure that a cell leaves is saved into the folder FIGURES."""

import json
import sys
import traceback
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend is chosen before)

notebook, figures = Path(sys.argv[1]), Path(sys.argv[2])
cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
names = {"__name__": "__main__"}
for number, cell in enumerate(cells, 1):
    try:
        exec(compile("".join(cell["source"]), f"{notebook.name}, code cell {number}", "exec"), names)
    except Exception:
        traceback.print_exc()
        sys.exit(f"code cell {number} of {len(cells)} failed")
    for figure in plt.get_fignums():
        plt.figure(figure).savefig(figures / f"cell-{number}-{figure}.png")
    plt.close("all")
print(f"{len(cells)} code cells ran")
