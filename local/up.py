"""`make up`: the demo's world kept running, for anybody who wants to try it by hand."""

import sys
import time

from rich.console import Console

from local.stage import Stage


def main() -> int:
    """Start, print how to talk to it, and stay until Ctrl-C."""
    console = Console(highlight=False, markup=False)
    with Stage(say=console.print) as stage:
        group = stage.security_group("try-me")
        outputs = stage.deployment.outputs
        for name, who in (("developer", stage.developer), ("operator", stage.operator)):
            console.print(f"\n# as the {name}", style="bold")
            console.print(
                f"export AWS_ENDPOINT_URL={stage.world.endpoint} AWS_DEFAULT_REGION={stage.world.region} \\"
            )
            console.print(
                f"  AWS_ACCESS_KEY_ID={who.access_key_id} AWS_SECRET_ACCESS_KEY={who.secret_access_key}"
                f" REDRESS_STAGE={stage.settings.stage} REDRESS_API={stage.api}"
            )
        console.print("\n# try this", style="bold")
        console.print(
            f"redress mode ec2-open-ssh act --account {stage.world.account} --reason trying    # as the operator"
        )
        console.print(
            f"aws ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port 22 --cidr 0.0.0.0/0"
            "    # as the developer"
        )
        console.print("redress log --since 1h    # as the operator\n")
        for name, value in sorted(outputs.items()):
            console.print(f"{name} = {value}")
        console.print("\nCtrl-C ends it; nothing is kept.")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            console.print("\nended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
