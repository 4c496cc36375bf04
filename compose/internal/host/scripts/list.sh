# Every sandbox of this root: "generation lease meta" a line. One that vanishes
# meanwhile is not listed.
for entry in "$root"/sb/*; do
	read -r generation attempt 2>/dev/null <"$entry/attempt" || continue
	read -r lease 2>/dev/null <"$entry/lease" || continue
	IFS= read -r meta 2>/dev/null <"$entry/meta.json" || continue
	printf '%s %s %s\n' "$generation" "$lease" "$meta"
done
exit 0
