"""The rehearsal that every release passes: the first day at a customer, from the wheels alone, without internet."""
