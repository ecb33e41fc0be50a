//go:build tools

// Package tools pins the controller that the benchmarks measure against.
package tools

import (
	_ "github.com/argoproj/argo-rollouts/cmd/rollouts-controller"
)
