"""How each operator becomes steps, by family; loaded at first need (compile/lowering.py)."""
