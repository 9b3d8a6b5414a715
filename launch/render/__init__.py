"""Kubernetes manifests from one typed description: see `launch.render.spec`."""
