package local

// Address returns where the model's server listens.
func Address(m *Model) string { return m.super.running().address }
