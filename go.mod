module stead

go 1.26
