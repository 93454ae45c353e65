"""What a person reads on a terminal: sentences, tables, bars. Knows JSON documents, no stages."""
