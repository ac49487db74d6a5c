"""How the tables come to be. Migrations only add, so that older code can go on with them."""
