package admission

// Loosenable lists the rules that a profile can loosen.
func Loosenable() []string { return loosenable() }
