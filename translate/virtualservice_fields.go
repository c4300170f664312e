package translate

func virtualServiceTables() []Table { return nil }
