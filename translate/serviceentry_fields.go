package translate

func serviceEntryTables() []Table { return nil }
