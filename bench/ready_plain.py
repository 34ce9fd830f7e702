"""A fresh process with the same four clients, made by plain boto3."""

import sys

import boto3

ec2 = boto3.client("ec2")
dynamodb = boto3.client("dynamodb")
sts = boto3.client("sts")
sqs = boto3.client("sqs")
sys.stdout.write("ready boto3\n")
sys.stdout.flush()
