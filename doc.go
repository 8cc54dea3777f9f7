// Package chargegate holds nothing but the tests that keep the house in order:
// which package may know which, and that each says what it is for. The programs
// are in cmd/, their parts in pkg/; docs/design.md draws the plan.
package chargegate
