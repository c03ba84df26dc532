// Package tools names what hack/install-test-tools builds from this module.
//go:build tools

package tools

import (
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
