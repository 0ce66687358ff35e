"""What a variant is made by: recipes, the schemes of their parts, grids of them."""
