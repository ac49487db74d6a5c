"""Everything that knows a database: its address, tables, migrations, pool and errors."""
