package translate

func sidecarTables() []Table { return nil }
