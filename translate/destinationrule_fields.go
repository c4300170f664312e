package translate

func destinationRuleTables() []Table { return nil }
