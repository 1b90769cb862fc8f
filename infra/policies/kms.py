"""Rules for keys: who may decrypt with them, that they rotate, and that none is lost."""

from infra.policies.answers import FINE, Answer, fails_if, undecidable
from infra.policies.arns import is_unnamed
from infra.policies.documents import PolicyStatement, each_statement, no_allow_for_anyone
from infra.policies.graph import UNKNOWN, read
from infra.policies.rule import KEY, Properties, Rule, Severity, at_least, is_none_of, is_set, is_true, on

KEYS = (KEY, "aws:kms/replicaKey:ReplicaKey")
_DECRYPTION = ("kms:Decrypt", "kms:ReEncryptFrom")
_SIGNING = "kms:Sign"
_SYMMETRIC = "SYMMETRIC_DEFAULT"
_ROOT = ":root"


def decrypts_with_named_keys(statement: PolicyStatement) -> Answer:
    """What allows decryption names the keys; as with AWS's control a condition does not make up for that."""
    if not statement.allows or not any(statement.may(action) for action in _DECRYPTION):
        return FINE
    wide = any(map(is_unnamed, statement.resources))
    return fails_if(bool(wide or statement.not_resources), f"{statement.label} allows decryption with every key")


def _rotates(properties: Properties) -> Answer:
    """AWS rotates symmetric keys and no others."""
    spec = read(properties, "customerMasterKeySpec")
    if spec == UNKNOWN:
        return undecidable("customerMasterKeySpec is not known yet")
    return is_true("enableKeyRotation")(properties) if spec in (None, _SYMMETRIC) else FINE


def _names_its_users(statement: PolicyStatement) -> Answer:
    """Who uses the key is named: the account as a whole decrypts or signs under a condition alone."""
    everything = bool(statement.not_actions) or bool({"*", "kms:*"} & set(statement.actions))
    accounts = statement.principals.get("AWS", ())
    to_account = any(each.endswith(_ROOT) or each.isdigit() for each in accounts)
    uses = any(statement.may(action) for action in (*_DECRYPTION, _SIGNING))
    to_whom_iam_lets = to_account and uses and not statement.conditions
    return fails_if(
        statement.allows and (everything or to_whom_iam_lets),
        f"{statement.label} leaves the key's use to whoever has a right to kms:Decrypt or kms:Sign",
    )


RULES = (
    Rule(
        id="kms-no-wide-decryption",
        severity=Severity.MEDIUM,
        types=("aws:iam/policy:Policy",),
        check=on(each_statement("policy", decrypts_with_named_keys)),
        reason="KMS.1 checks that no customer managed policy allows kms:Decrypt or kms:ReEncryptFrom on all keys",
        remedy="name the keys in Resource",
        control="KMS.1",
        cdk_nag="AwsSolutions-IAM5",
    ),
    Rule(
        id="kms-no-wide-decryption-inline",
        severity=Severity.MEDIUM,
        types=("aws:iam/rolePolicy:RolePolicy", "aws:iam/userPolicy:UserPolicy", "aws:iam/groupPolicy:GroupPolicy"),
        check=on(each_statement("policy", decrypts_with_named_keys)),
        reason="KMS.2 checks that no inline policy allows kms:Decrypt or kms:ReEncryptFrom on all keys",
        remedy="name the keys in Resource",
        control="KMS.2",
        cdk_nag="AwsSolutions-IAM5",
    ),
    Rule(
        id="kms-not-lost",
        severity=Severity.HIGH,
        types=KEYS,
        check=on(at_least("deletionWindowInDays", 30, default=30), is_none_of("isEnabled", False, default=True)),
        reason="KMS.3 checks that no key is about to be deleted, and its data with it; 30 days is the longest wait",
        remedy="set deletionWindowInDays 30 and leave the key enabled",
        control="KMS.3",
    ),
    Rule(
        id="kms-rotates",
        severity=Severity.MEDIUM,
        types=(KEY,),
        check=on(_rotates),
        reason="KMS.4 checks that symmetric keys rotate, so that one that leaks opens no more than a year's data; AWS "
        "rotates no other",
        remedy="set enableKeyRotation",
        control="KMS.4",
        cdk_nag="AwsSolutions-KMS5",
    ),
    Rule(
        id="kms-not-public",
        severity=Severity.HIGH,
        types=(*KEYS, "aws:kms/keyPolicy:KeyPolicy"),
        check=on(each_statement("policy", no_allow_for_anyone)),
        reason="KMS.5 checks that no key's policy allows anything to everybody",
        remedy="name the principals, or limit the statement to an account",
        control="KMS.5",
    ),
    Rule(
        id="kms-policy-named",
        severity=Severity.MEDIUM,
        types=KEYS,
        check=on(is_set("policy"), each_statement("policy", _names_its_users)),
        reason="every user of a key stands in its policy with what it may do: a role, or the AWS service that it is "
        "used through; with kms:* for the account, whoever has a wide right in IAM reads everything under it",
        remedy="let the account administer the key, and name its users with a condition such as kms:ViaService",
    ),
)
