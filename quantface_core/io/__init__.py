"""Files: photos, films, models, recipes, tables, manifests and stores; the catalogue of models, and the Hub."""
