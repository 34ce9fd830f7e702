"""Which IAM actions an API operation needs. Mostly `service:Operation`; here is where it is not.

Taken from the Service Authorization Reference; a test holds every action named here against the published list.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import JsonValue

PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        "accessanalyzer": "access-analyzer",
        "amp": "aps",
        "apigatewayv2": "apigateway",
        "docdb": "rds",
        "efs": "elasticfilesystem",
        "elb": "elasticloadbalancing",
        "elbv2": "elasticloadbalancing",
        "emr": "elasticmapreduce",
        "neptune": "rds",
        "opensearch": "es",
        "resourcegroupstaggingapi": "tag",
        "s3control": "s3",
        "service-quotas": "servicequotas",
        "sesv2": "ses",
        "sso-admin": "sso",
        "stepfunctions": "states",
    }
)
"""boto3's services whose IAM prefix is spelt otherwise."""

OPERATION_ACTIONS: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        ("apigateway", "GetRestApi"): ("apigateway:GET",),
        ("apigateway", "GetRestApis"): ("apigateway:GET",),
        ("apigateway", "GetStage"): ("apigateway:GET",),
        ("apigateway", "GetStages"): ("apigateway:GET",),
        ("apigateway", "UpdateStage"): ("apigateway:PATCH",),
        ("apigatewayv2", "GetApis"): ("apigateway:GET",),
        ("apigatewayv2", "GetStage"): ("apigateway:GET",),
        ("apigatewayv2", "GetStages"): ("apigateway:GET",),
        ("apigatewayv2", "UpdateStage"): ("apigateway:PATCH",),
        ("lambda", "Invoke"): ("lambda:InvokeFunction",),
        ("s3", "DeleteBucketCors"): ("s3:PutBucketCORS",),
        ("s3", "DeleteBucketEncryption"): ("s3:PutEncryptionConfiguration",),
        ("s3", "DeleteBucketLifecycle"): ("s3:PutLifecycleConfiguration",),
        ("s3", "DeleteBucketOwnershipControls"): ("s3:PutBucketOwnershipControls",),
        ("s3", "DeleteBucketReplication"): ("s3:PutReplicationConfiguration",),
        ("s3", "DeleteBucketTagging"): ("s3:PutBucketTagging",),
        ("s3", "DeletePublicAccessBlock"): ("s3:PutBucketPublicAccessBlock",),
        ("s3", "GetBucketAccelerateConfiguration"): ("s3:GetAccelerateConfiguration",),
        ("s3", "GetBucketCors"): ("s3:GetBucketCORS",),
        ("s3", "GetBucketEncryption"): ("s3:GetEncryptionConfiguration",),
        ("s3", "GetBucketLifecycleConfiguration"): ("s3:GetLifecycleConfiguration",),
        ("s3", "GetBucketNotificationConfiguration"): ("s3:GetBucketNotification",),
        ("s3", "GetBucketReplication"): ("s3:GetReplicationConfiguration",),
        ("s3", "GetObjectLockConfiguration"): ("s3:GetBucketObjectLockConfiguration",),
        ("s3", "GetPublicAccessBlock"): ("s3:GetBucketPublicAccessBlock",),
        ("s3", "HeadBucket"): ("s3:ListBucket",),
        ("s3", "HeadObject"): ("s3:GetObject",),
        ("s3", "ListBuckets"): ("s3:ListAllMyBuckets",),
        ("s3", "ListMultipartUploads"): ("s3:ListBucketMultipartUploads",),
        ("s3", "ListObjectVersions"): ("s3:ListBucketVersions",),
        ("s3", "ListObjects"): ("s3:ListBucket",),
        ("s3", "ListObjectsV2"): ("s3:ListBucket",),
        ("s3", "PutBucketCors"): ("s3:PutBucketCORS",),
        ("s3", "PutBucketEncryption"): ("s3:PutEncryptionConfiguration",),
        ("s3", "PutBucketLifecycleConfiguration"): ("s3:PutLifecycleConfiguration",),
        ("s3", "PutBucketNotificationConfiguration"): ("s3:PutBucketNotification",),
        ("s3", "PutBucketReplication"): ("s3:PutReplicationConfiguration",),
        ("s3", "PutObjectLockConfiguration"): ("s3:PutBucketObjectLockConfiguration",),
        ("s3", "PutPublicAccessBlock"): ("s3:PutBucketPublicAccessBlock",),
        ("s3control", "DeletePublicAccessBlock"): ("s3:PutAccountPublicAccessBlock",),
        ("s3control", "GetPublicAccessBlock"): ("s3:GetAccountPublicAccessBlock",),
        ("s3control", "PutPublicAccessBlock"): ("s3:PutAccountPublicAccessBlock",),
    }
)
"""Operations whose action is not `service:Operation`, by boto3's service and the API's operation."""

ALSO_NEEDS: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        ("cloudtrail", "CloudWatchLogsRoleArn"): ("iam:PassRole",),
        ("config", "ConfigurationRecorder"): ("iam:PassRole",),
        ("ec2", "DeliverLogsPermissionArn"): ("iam:PassRole",),
        ("ec2", "TagSpecifications"): ("ec2:CreateTags",),
        ("guardduty", "Tags"): ("guardduty:TagResource",),
        ("kms", "Tags"): ("kms:TagResource",),
        ("logs", "tags"): ("logs:TagResource",),
        ("rds", "MonitoringRoleArn"): ("iam:PassRole",),
        ("s3", "ReplicationConfiguration"): ("iam:PassRole",),
        ("sns", "Tags"): ("sns:TagResource",),
        ("sqs", "tags"): ("sqs:TagQueue",),
    }
)
"""What a call needs besides its own action when it carries this parameter, by boto3's service and the parameter."""


def actions_of(
    service: str, operation: str, params: Mapping[str, JsonValue] | None = None
) -> tuple[str, ...]:
    """Every IAM action that the operation needs, with those that these parameters add; sorted behind its own."""
    own = OPERATION_ACTIONS.get((service, operation)) or (f"{PREFIXES.get(service, service)}:{operation}",)
    added = {
        action
        for (also, name), needed in ALSO_NEEDS.items()
        if also == service and params and params.get(name)
        for action in needed
    }
    return (*own, *sorted(added - {*own}))
