# Run in the build, once a stage's packages are installed: lets its Python find the project's code in
# /opt/code, and compiles the packages, which a read-only image cannot do as it starts.
set -eu
for packages in /opt/*/lib/python3*/site-packages; do
    echo /opt/code > "$packages/code.pth"
    # Some packages have files that are no Python, such as templates: those stay as they are.
    python3 -m compileall -qq -x /tests/ --invalidation-mode unchecked-hash "$packages" || true
done
