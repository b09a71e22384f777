package spec

func fieldDoc(field string) string { return "" }
