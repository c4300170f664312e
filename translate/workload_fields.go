package translate

func workloadTables() []Table { return nil }
