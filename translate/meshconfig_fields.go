package translate

func meshConfigTables() []Table { return nil }
