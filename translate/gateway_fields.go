package translate

func gatewayTables() []Table { return nil }
