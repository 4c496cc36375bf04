# What the host's files say of one sandbox. In: id.
know_secrets
[ ! -e "$secrets" ] || echo "secrets $secrets"
[ -d "$dir" ] || exit 0
echo "present"
echo "root $root"
read -r attempt 2>/dev/null <"$dir/attempt" && echo "attempt $attempt"
read -r lease 2>/dev/null <"$dir/lease" && echo "lease $lease"
[ -e "$dir/destroying" ] && echo "destroying"
[ -f "$dir/plan.json" ] && printf 'plan %s\n' "$(cat "$dir/plan.json")"
exit 0
